"""A cluster in one process that obeys a script: what a real SLURM does to jobs, on demand."""
