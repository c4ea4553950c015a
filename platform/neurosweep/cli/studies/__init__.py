"""Bundled studies: TOML files."""
