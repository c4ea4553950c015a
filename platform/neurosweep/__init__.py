"""Search platform for brain-to-text decoding: exact rounds of training jobs, honestly scored."""

__version__ = "0.1.0"
