"""Model families: one file or folder each, with Config and build(config, facts)."""
