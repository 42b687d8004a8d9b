"""From a config to an evaluation that can be started: environments made, both sides asked, all of it checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from vlaeval_hpc.config.schema import Config
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.launch.checkpoints import Checkpoint, ready_checkpoint
from vlaeval_hpc.launch.description import Described, describe_benchmark
from vlaeval_hpc.launch.licenses import with_licenses
from vlaeval_hpc.launch.planning import check_fit, check_numbers, make_plan, run_name
from vlaeval_hpc.launch.remote import RemoteServer
from vlaeval_hpc.launch.roles import checkpoint_binds
from vlaeval_hpc.launch.runtime import Runtime, ready_runtime
from vlaeval_hpc.run.directory import RunDirectory
from vlaeval_hpc.run.plan import Plan

REMOTE_WAIT = 600.0  # seconds


@dataclass(frozen=True)
class Evaluation:
    """What is to be run, where it is kept, and where its two sides live; `remote` is a server that is there already.

    `checkpoint` maps the checkpoint's files to their hashes, `source` tells where it came from.
    """

    config: Config
    plan: Plan
    run: RunDirectory
    runtimes: dict[str, Runtime]
    checkpoint: dict[str, str]
    source: Checkpoint
    remote: RemoteServer | None


class Preparation:
    """Prepares evaluations one after the other; what they share is done once. `with` ends what it started."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._policies: dict[tuple[str, str], Described] = {}

    def __enter__(self) -> Preparation:
        return self

    def __exit__(self, *_: object) -> None:
        for described in self._policies.values():
            described.__exit__()

    def evaluation(self, config: Config) -> Evaluation:
        """Everything made and checked; nothing is started, and nothing written but in the cache.

        Raises ConfigurationError for whatever would keep the evaluation from its end.
        """
        check_numbers(config)
        config = with_licenses(config)
        remote = RemoteServer.parse(config.server.url) if config.server.url else None
        if remote:
            remote.check()
            # No job of ours tells whether it will come back: shards do not wait for it for ever.
            wait = config.server.wait_timeout or REMOTE_WAIT
            config = replace(config, server=replace(config.server, url=remote.url, wait_timeout=wait))
        elif config.model.target is None:
            raise ConfigurationError(f"model={config.model.name} needs server.url=ws://HOST:PORT")
        source = ready_checkpoint(config.model.checkpoint, self._say)
        config = replace(config, model=replace(config.model, checkpoint=source.value))
        runtimes = {"benchmark": ready_runtime(config.benchmark.environment, config.benchmark.name, self._say)}
        if not remote:
            runtimes["model"] = ready_runtime(config.model.environment, config.model.name, self._say)
        config = _pinned(config, runtimes)
        with ThreadPoolExecutor() as pool:
            asked = pool.submit(describe_benchmark, config.benchmark, runtimes["benchmark"])
            policy = None if remote else self._describe_policy(config, runtimes["model"])
            benchmark = asked.result()
        if policy is not None:
            check_fit(benchmark, policy, config)
        plan = make_plan(config, benchmark, policy)
        run = RunDirectory(Path(config.results) / (config.run or run_name(config, plan)))
        return Evaluation(config, plan, run, runtimes, policy["checkpoint"] if policy else {}, source, remote)

    def policy(self, config: Config) -> tuple[Config, Runtime]:
        """The model's side alone: the config with its checkpoint found, and the runtime. Raises ConfigurationError."""
        source = ready_checkpoint(config.model.checkpoint, self._say)
        config = replace(config, model=replace(config.model, checkpoint=source.value))
        runtime = ready_runtime(config.model.environment, config.model.name, self._say)
        self._describe_policy(config, runtime)
        return config, runtime

    def _describe_policy(self, config: Config, runtime: Runtime) -> dict[str, Any]:
        """Specs and the checkpoint's hashes."""
        binds = checkpoint_binds(config.model.checkpoint)
        # A container sees only the checkpoint that it was started with; an interpreter sees all.
        key = (repr(runtime), str(binds) if runtime.image else "")
        if key not in self._policies:
            self._policies[key] = Described(runtime, "vlaeval_hpc.serving", "model")
        return self._policies[key].ask({"model": asdict(config.model)}, binds)


def _pinned(config: Config, runtimes: Mapping[str, Runtime]) -> Config:
    """The config with images as the files that they are now: no tag that moves, no definition that changes."""
    for side, runtime in runtimes.items():
        if runtime.image is not None:
            section = getattr(config, side)
            environment = replace(section.environment, image=str(runtime.image.path), build_args={})
            config = replace(config, **{side: replace(section, environment=environment)})
    return config
