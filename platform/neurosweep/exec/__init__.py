"""Where attempts run: the job runner and the executors."""
