"""Parts of the typing simulator: text, timing, sources, noise, files."""
