"""Simulation benchmarks, one file a family; they run inside the benchmark's own environment or image."""
