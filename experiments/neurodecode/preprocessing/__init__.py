"""Filtering, resampling and scaling of recordings, once for all trials."""
