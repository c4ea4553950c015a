"""Complete default configurations, one TOML file each."""
