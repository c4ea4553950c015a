"""Stages that follow from each other: each is run once, and found again by its fingerprint."""
