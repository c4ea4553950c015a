"""Parts of the readers of typed sentences: an events table beside MEG recordings."""
