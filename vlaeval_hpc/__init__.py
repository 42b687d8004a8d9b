"""Evaluate Vision-Language-Action policies on simulation benchmarks, on one machine or a Slurm cluster."""

__version__ = "0.1.0"
