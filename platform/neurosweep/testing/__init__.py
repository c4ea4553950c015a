"""Torch-free jobs, fakes and contract suites for users' own plugins."""
