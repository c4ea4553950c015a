"""Where attempts run, one module per executor."""
