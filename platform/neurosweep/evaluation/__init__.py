"""Scoring by trusted code: error rates, splits, intervals."""
