"""Configuration, errors, files, provenance: what every other layer stands on."""
