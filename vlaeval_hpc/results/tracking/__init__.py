"""Merged results in experiment trackers; a file each."""
