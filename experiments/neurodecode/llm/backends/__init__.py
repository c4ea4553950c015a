"""Causal language models by name: every module has ``load(config)`` and ``files(config)``."""
