"""Nodes on which nothing works: told by the shards that left, kept out of what is submitted and what still waits."""

from __future__ import annotations

import json

from vlaeval_hpc.config.schema import ClusterConfig
from vlaeval_hpc.launch.decisions import decide
from vlaeval_hpc.run.directory import RunDirectory


def sick_nodes(run: RunDirectory) -> dict[str, str]:
    """The nodes that a shard of this run found sick, and why."""
    found = {}
    for path in sorted(run.shards.glob("*.sick")):
        try:
            sign = json.loads(path.read_text())
            found[str(sign["node"])] = str(sign["why"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found


def excluded(run: RunDirectory, cluster: ClusterConfig) -> str | None:
    """What sbatch is told to exclude for the shards: the user's own list, and the sick nodes; None where there is
    nothing."""
    own = cluster.shard.get("exclude") or cluster.sbatch.get("exclude")
    return ",".join([*([str(own)] if own else []), *sick_nodes(run)]) or None


def exclude(run: RunDirectory, node: str) -> bool:
    """Record that a node is left out, and why; False where that was decided before. Raises InfrastructureError."""
    return decide(run, f"node {node} is excluded", f"the first episodes of a shard failed: {sick_nodes(run).get(node)}")
