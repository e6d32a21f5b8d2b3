"""Baselines, one file each."""
