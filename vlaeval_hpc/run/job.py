"""The Slurm job that a process runs in, as squeue names it."""

from __future__ import annotations

import os
import socket
from typing import Optional


def job_name() -> Optional[str]:
    """`12`, or `12_3` for a task of a job array; None outside of Slurm."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")


def job_restarts() -> int:
    """How often Slurm has started this job again."""
    return int(os.environ.get("SLURM_RESTART_COUNT") or 0)


def node_name() -> str:
    """The node that we are on, as Slurm names it; outside of Slurm the host."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()
