"""Datasets: every module of this folder is one."""
