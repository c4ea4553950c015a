"""Causal language models by name: every module here has ``load(config) -> Backend``."""
