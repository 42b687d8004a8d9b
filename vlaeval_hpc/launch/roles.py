"""The two kinds of processes that an evaluation is made of, as every launcher starts them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vlaeval_hpc.launch.machine import has_nvidia, render_variables
from vlaeval_hpc.launch.process import Process
from vlaeval_hpc.launch.recording import encoder
from vlaeval_hpc.launch.runtime import Runtime
from vlaeval_hpc.run.directory import RunDirectory
from vlaeval_hpc.run.plan import Plan


def server_process(
    run: RunDirectory, replica: int, runtime: Runtime, gpus: list[str], cpus: Sequence[int] = ()
) -> Process:
    """The policy server of a run, with all of `gpus`."""
    root = str(run.root.resolve())
    return Process(
        name="server",
        runtime=runtime,
        module="vlaeval_hpc.serving",
        arguments=[root, "--replica", str(replica)],
        log=run.logs / f"server-{replica}.log",
        variables={"CUDA_VISIBLE_DEVICES": ",".join(gpus)} if gpus else {},
        binds=[root, *checkpoint_binds(Plan.load(run.plan).model.get("checkpoint"))],
        cpus=cpus,
        nv=bool(gpus) and has_nvidia(),
    )


def checkpoint_binds(checkpoint: Any) -> list[str]:
    """What a container must see of a checkpoint: where it is a path, that."""
    return [checkpoint] if isinstance(checkpoint, str) and checkpoint.startswith("/") else []


def shard_process(
    run: RunDirectory, shard: int, runtime: Runtime, gpus: list[str], cpus: Sequence[int] = ()
) -> Process:
    """A shard of a run, rendering on the first of `gpus`, or on the CPU where there is none."""
    root = str(run.root.resolve())
    plan = Plan.load(run.plan)
    brought, folders = encoder(plan)
    return Process(
        name=f"shard {shard}",
        runtime=runtime,
        module="vlaeval_hpc.worker",
        arguments=[root, "--shard-id", str(shard)],
        log=run.logs / f"shard-{shard}.log",
        variables={**render_variables(gpus), **brought},
        lock=run.shard(plan.name, shard, plan.shards).lock,
        binds=[root, *folders],
        cpus=cpus,
        nv=bool(gpus) and has_nvidia(),
    )
