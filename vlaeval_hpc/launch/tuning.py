"""What a pair of policy and benchmark asks for and gives, measured on this machine, and the settings that follow."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from vlaeval_hpc.config.schema import Config
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.launch.description import Described, describe_benchmark
from vlaeval_hpc.launch.machine import has_nvidia, in_turn, render_variables, share, usable_cpus, usable_gpus
from vlaeval_hpc.launch.planning import check_fit, chosen_tasks
from vlaeval_hpc.launch.roles import checkpoint_binds
from vlaeval_hpc.launch.runtime import Runtime

BATCHES = (1, 2, 4, 8, 16, 32, 64)
WORTH = 1.05  # a larger batch, or one more shard, must bring so much, or no more are tried
ENOUGH = 0.95  # of the most that was seen
MOST_SIMULATORS = 4  # of a shard: each holds a scene in memory
BUSY = 0.9  # of its most that a replica is asked for


class Demand(NamedTuple):
    """What so many shards of one simulator do together where nobody makes them wait."""

    shards: int
    steps: float  # a second


class Supply(NamedTuple):
    """What the policy gives at this batch size."""

    batch: int
    answers: float  # a second

    @property
    def latency(self) -> float:
        """Seconds that a batch takes."""
        return self.batch / self.answers


class Measured(NamedTuple):
    """Both sides; `chunk`: steps for each answer; `memory`: bytes of a simulator."""

    demand: list[Demand]
    supply: list[Supply]
    chunk: int
    memory: int


class Advice(NamedTuple):
    """The settings, and the steps a second that they should reach."""

    shards: int
    simulators: int
    batch: int
    replicas: int
    steps: float


def advise(found: Measured, wanted: int | None = None) -> Advice:
    """Settings for this machine, or for so many `wanted` shards of such CPUs elsewhere.

    The smallest batch and the fewest shards that reach what more would; a second simulator where a shard would wait
    for an answer as long as it steps for one; elsewhere as many replicas as the shards keep busy.
    """
    most = max(d.steps for d in found.demand)
    machine = next(d for d in found.demand if d.steps >= ENOUGH * most)
    each = machine.steps / machine.shards  # steps a second of a shard that does not wait
    shards = wanted or machine.shards
    best = max(s.answers for s in found.supply)
    asked = shards * each / found.chunk
    # No larger batch than is asked for at a time.
    use = [s for s in found.supply if s.answers >= min(ENOUGH * best, asked)]
    batch = use[0] if use else max(found.supply, key=lambda s: s.answers)
    stepping = found.chunk / each
    simulators = min(MOST_SIMULATORS, max(1, round(1 + batch.latency / stepping)))
    replicas = max(1, math.ceil(asked / (BUSY * batch.answers))) if wanted else 1
    if wanted is None:  # more shards than the policy can answer only wait
        shards = min(shards, max(1, math.ceil(batch.answers * stepping / BUSY)))
    # A shard waits for what no other simulator of its own covers.
    pace = each * min(1.0, simulators * stepping / (stepping + batch.latency))
    return Advice(shards, simulators, batch.batch, replicas, min(shards * pace, replicas * batch.answers * found.chunk))


def measure(config: Config, benchmark: Runtime, model: Runtime, seconds: float, say: Callable[[str], None]) -> Measured:
    """Both sides, one after the other, each value for so many seconds. Raises ConfigurationError."""
    binds = checkpoint_binds(config.model.checkpoint)
    with tempfile.TemporaryDirectory(prefix="vlaeval_hpc-") as folder, ExitStack() as stack:
        policy = stack.enter_context(_policy(config, model))
        with Described(model, "vlaeval_hpc.serving", "model") as described:
            specs = described.ask({"model": asdict(config.model)}, binds)
        about = describe_benchmark(config.benchmark, benchmark)
        check_fit(about, specs, config)
        task = chosen_tasks(config, about["tasks"])[0]
        start = {
            "benchmark": {k: getattr(config.benchmark, k) for k in ("target", "params", "seed")},
            "select": config.benchmark.observe or list(specs["observation_spec"]),
            "task": task,
            "max_steps": config.benchmark.max_steps or about["max_steps"],
        }
        kept = Path(folder) / "observation"
        say(f"a simulator of {config.benchmark.name}: '{task['name']}'")
        with _simulator(config, benchmark, 0, 1) as first:
            memory = first.ask({**start, "keep": str(kept)}, [folder])["memory"]
        say(f"the policy {config.model.name}, by batch size")
        loaded = policy.ask({"model": asdict(config.model), "observation": str(kept), "task": task}, [folder, *binds])
        chunk = min(config.model.chunk_size or loaded["chunk"], loaded["chunk"])
        supply = _supply(policy, seconds)
        say(f"simulators of {config.benchmark.name}, by number of shards")
        demand = _demand(config, benchmark, {**start, "keep": None}, chunk, seconds)
    return Measured(demand, supply, chunk, memory)


def _policy(config: Config, runtime: Runtime) -> Described:
    gpus = usable_gpus(config.cluster.gpus)
    variables = {"CUDA_VISIBLE_DEVICES": ",".join(gpus)} if gpus else {}
    return Described(runtime, "vlaeval_hpc.serving", "model", "tune", variables, bool(gpus) and has_nvidia())


def _supply(policy: Described, seconds: float) -> list[Supply]:
    found: list[Supply] = []
    for batch in BATCHES:
        try:
            answer = policy.ask({"batch": batch, "seconds": seconds})
        except ConfigurationError:
            if not found:
                raise
            break  # the GPU's memory is full
        found.append(Supply(batch, answer["answers"] / answer["seconds"]))
        if len(found) > 1 and found[-1].answers < WORTH * found[-2].answers:
            break
    return found


def _simulator(config: Config, runtime: Runtime, shard: int, shards: int) -> Described:
    gpus = in_turn(usable_gpus(config.cluster.gpus), shard)
    # As a shard's: of this thread, and of what it starts.
    os.sched_setaffinity(0, share(usable_cpus(config.cluster.cpus), shard, shards))
    variables = render_variables(gpus)
    return Described(runtime, "vlaeval_hpc.worker", "benchmark", "tune", variables, bool(gpus) and has_nvidia())


def _demand(config: Config, runtime: Runtime, start: dict[str, Any], chunk: int, seconds: float) -> list[Demand]:
    found: list[Demand] = []
    cpus = os.sched_getaffinity(0)
    for shards in _counts(len(usable_cpus(config.cluster.cpus))):
        with ExitStack() as stack:

            def begin(shard: int, shards: int = shards, stack: ExitStack = stack) -> Described:
                simulator = stack.enter_context(_simulator(config, runtime, shard, shards))
                simulator.ask(start)
                return simulator

            with ThreadPoolExecutor(shards) as pool:
                simulators = list(pool.map(begin, range(shards)))
                question = {"seconds": seconds, "chunk": chunk}
                answers = list(pool.map(lambda s, q=question: s.ask(q), simulators))
        found.append(Demand(shards, sum(a["steps"] / a["seconds"] for a in answers)))
        if len(found) > 1 and found[-1].steps < WORTH * found[-2].steps:
            break
    os.sched_setaffinity(0, cpus)
    return found


def _counts(cpus: int) -> Sequence[int]:
    """1, 2, 4, ... and a shard a CPU."""
    return [*(2**n for n in range(cpus.bit_length()) if 2**n < cpus), cpus]
