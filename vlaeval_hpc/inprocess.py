"""`vlaeval_hpc.evaluate`: a policy that is an object of this process, a training loop's, on a benchmark."""

from __future__ import annotations

import asyncio
import logging
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlaeval_hpc.config.composition import compose, to_yaml
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.launch.checkpoints import Checkpoint
from vlaeval_hpc.launch.description import describe_benchmark
from vlaeval_hpc.launch.evaluation import Evaluation
from vlaeval_hpc.launch.folder import open_leases, open_run
from vlaeval_hpc.launch.licenses import with_licenses
from vlaeval_hpc.launch.local import LocalCluster
from vlaeval_hpc.launch.planning import check_fit, check_numbers, make_plan, run_name
from vlaeval_hpc.launch.provenance import provenance
from vlaeval_hpc.launch.runtime import ready_runtime
from vlaeval_hpc.policies.base import Observation, Policy, Session
from vlaeval_hpc.results.export import merge_into_files
from vlaeval_hpc.run.directory import RunDirectory
from vlaeval_hpc.serving.server import Place, PolicyServer
from vlaeval_hpc.wire.specs import Spec, Specs

Act = Callable[[Observation], "NDArray[np.floating[Any]]"]

END_TIMEOUT = 30.0  # seconds that the server has to end once its run has


@dataclass(frozen=True)
class Result:
    """`success` is the rate over all episodes, `interval` its 95 % interval, `tasks` the rates by task; `merged` is all
    that merged.json holds. `folder` is the run directory, None where it was not kept."""

    success: float
    interval: tuple[float, float]
    tasks: dict[str, float]
    merged: dict[str, Any]
    folder: Path | None


def evaluate(
    policy: Policy | Act,
    benchmark: str,
    overrides: Sequence[str] = (),
    *,
    observe: Sequence[str] | None = None,
    results: str | Path | None = None,
    name: str | None = None,
) -> Result:
    """Evaluate a policy of this process on conf's `benchmark`: the same episodes as by the command line, without Slurm.

    `policy` is a Policy that is loaded already, or a function from one observation (`images` {camera: (h, w, 3) uint8},
    `states`, `task_description`) to an action chunk (k, dim) or action (dim,). It is called in a thread of its own,
    without gradients; simulators are processes in the benchmark's own environment. `overrides` are those of the command
    line: benchmark.*, cluster.shards, model.max_batch_size (a function is asked one by one), model.chunk_size,
    server.answer_timeout. `observe` names what a function is shown, null: all that the benchmark gives. `results` keeps
    the run directory, in this folder, under `name`; left out, nothing is kept.

    Raises ConfigurationError for what is wrong, before anything starts; for a run directory that is there already, too,
    since this policy has no checkpoint by which its episodes could be told from another's. Raises InfrastructureError
    where it is stopped by a signal.
    """
    config = compose(["model=remote", f"benchmark={benchmark}", *overrides])
    kind = policy if isinstance(policy, Policy) else None
    target = f"{type(kind or policy).__module__}:{type(kind or policy).__qualname__}"
    # By this port of no server LocalCluster knows that it is not to start one.
    server = replace(config.server, url="ws://127.0.0.1:0", host="127.0.0.1", port=0)
    config = replace(config, model=replace(config.model, name=name or "policy", target=target), server=server)
    if config.cluster.scheduler != "local":
        raise ConfigurationError("evaluate works on this machine: cluster=local")
    check_numbers(config)
    config = with_licenses(config)
    runtime = ready_runtime(config.benchmark.environment, config.benchmark.name, lambda line: print(line, flush=True))
    described = describe_benchmark(config.benchmark, runtime)
    held = _InProcess(policy, described, observe)
    specs = {k: {n: s.to_dict() for n, s in getattr(held, k).items()} for k in ("action_spec", "observation_spec")}
    check_fit(described, specs, config)
    plan = make_plan(config, described, {**specs, "checkpoint": {}, "files": {}})
    with ExitStack() as stack:
        where = results or stack.enter_context(tempfile.TemporaryDirectory(prefix="vlaeval_hpc-"))
        run = RunDirectory(Path(where) / (name or run_name(config, plan)))
        if run.plan.exists():
            raise ConfigurationError(f"{run.root} is there already, of another policy perhaps: choose another name")
        evaluation = Evaluation(config, plan, run, {"benchmark": runtime}, {}, Checkpoint(None), None)
        open_run(run, plan, to_yaml(config), {**provenance([*sys.argv], evaluation), "overrides": list(overrides)})
        open_leases(run, plan)
        _work(evaluation, held)
        merged = merge_into_files(run)
    low, high = merged["mean_success_interval"]
    rates = {task["task"]: task["mean_success"] for task in merged["tasks"]}
    return Result(merged["mean_success"], (low, high), rates, merged, run.root if results else None)


def _work(evaluation: Evaluation, policy: Policy) -> None:
    """Run all episodes: the server in a thread, the shards as processes."""
    config, run, plan = evaluation.config, evaluation.run, evaluation.plan
    place = Place(run=plan.run, rendezvous=run.rendezvous(0), stop=run.stop)
    server = _ServerThread(lambda: PolicyServer(config.model.name, policy, plan.model, place))
    server.start()
    try:
        cluster = LocalCluster(config, run, plan.shards, evaluation.runtimes)
        cluster.work(list(range(plan.shards)), server.check)
        for note in cluster.notes:
            print(f"note: {note}", flush=True)
    finally:
        run.stop.touch()
        server.join(END_TIMEOUT)


class _ServerThread(threading.Thread):
    """A server, made in the thread's own event loop, until its stop file is there."""

    def __init__(self, make: Callable[[], PolicyServer]) -> None:
        super().__init__(name="vlaeval_hpc server", daemon=True)
        self._make = make
        self._failure: BaseException | None = None

    def run(self) -> None:
        logging.getLogger("websockets.quiet").setLevel(logging.CRITICAL)  # the caller's log has other readers

        async def serve() -> None:
            await self._make().run(lambda _: None)

        try:
            asyncio.run(serve())
        except BaseException as error:
            self._failure = error

    def check(self) -> None:
        """Raises what broke the server, which the shards would only wait for."""
        if self._failure is not None:
            raise self._failure


class _InProcess(Policy):
    """The caller's policy or function, which is loaded already, without gradients."""

    def __init__(self, policy: Policy | Act, benchmark: dict[str, Any], observe: Sequence[str] | None) -> None:
        super().__init__(checkpoint=None)
        self._policy = policy
        if isinstance(policy, Policy):
            if observe is not None:
                raise ConfigurationError("observe is for a function; a Policy says it by its observation_spec")
            self.action_spec, self.observation_spec = policy.action_spec, policy.observation_spec
        else:
            given: Specs = {k: Spec.from_dict(v) for k, v in benchmark["observation_spec"].items()}
            self.action_spec = {}
            # A name that the benchmark does not have is refused with the valid ones, as any policy's.
            self.observation_spec = {
                k: given.get(k, Spec(k, 0, "any")) for k in (given if observe is None else observe)
            }

    def reset(self, session: Session) -> None:
        if isinstance(self._policy, Policy):
            with _no_grad():
                self._policy.reset(session)

    def predict(self, observations: list[Observation], sessions: list[Session]) -> list[NDArray[np.floating[Any]]]:
        with _no_grad():
            if isinstance(self._policy, Policy):
                return self._policy.predict(observations, sessions)
            return [_array(self._policy(seen)) for seen in observations]


def _no_grad() -> AbstractContextManager[Any]:
    # Whether gradients are kept is a matter of each thread: the caller's setting does not hold in ours.
    torch = sys.modules.get("torch")
    return torch.no_grad() if torch is not None else nullcontext()


def _array(chunk: Any) -> NDArray[np.floating[Any]]:
    """A chunk as numpy, of a tensor on whatever device too."""
    if hasattr(chunk, "detach"):
        chunk = chunk.detach().float().cpu().numpy()
    return np.asarray(chunk)
