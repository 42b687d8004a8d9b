"""Every key of the configuration, with its type and default; conf/ gives the values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING


@dataclass
class EnvironmentConfig:
    """Where a benchmark or a policy runs.

    kind host is this interpreter; venv is a virtual environment of `requirements`, made once and kept in the cache,
    for `python` (a version or a path; null: this interpreter's version); image is an Apptainer image: a .sif, a .def
    (made once, with `build_args`) or docker://..., in which `python` is a command (null: python3). `binds` and `flags`
    are further ones for `apptainer exec`. `variables` are set for the process.
    """

    kind: str = "host"
    python: str | None = None
    requirements: list[str] = field(default_factory=list)
    image: str | None = None
    build_args: dict[str, str] = field(default_factory=dict)
    binds: list[str] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)


@dataclass
class ModelConfig:
    """A policy. `target` is `module:Class`; the class gets `checkpoint` and `params`."""

    name: str = MISSING
    target: str | None = None
    checkpoint: Any = None
    params: dict[str, Any] = field(default_factory=dict)
    environment: EnvironmentConfig = field(default_factory=EnvironmentConfig)
    chunk_size: int | None = None
    action_ensemble: str = "newest"
    ema_alpha: float = 0.5
    max_batch_size: int | None = 1
    max_wait_time: float | None = None
    replicas: int = 1


@dataclass
class BenchmarkConfig:
    """A benchmark. `target` is `module:Class`; the class gets `seed` and `params`. null: the benchmark's own."""

    name: str = MISSING
    target: str = MISSING
    params: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    episodes_per_task: int | None = None
    tasks: list[str] | None = None
    max_tasks: int | None = None
    max_steps: int | None = None
    observe: list[str] | None = None
    hang_timeout: float = 300.0
    licenses: dict[str, str] = field(default_factory=dict)
    environment: EnvironmentConfig = field(default_factory=EnvironmentConfig)


@dataclass
class ClusterConfig:
    """Where the server and the shards run, and how many `simulators` a shard has side by side.

    scheduler local: `cpus`, `gpus` and `restarts` are its own. scheduler slurm: the rest is; `sbatch` holds options of
    all three jobs by their sbatch names, `server`, `shard` and `merge` those of one, null leaves an option out.
    """

    name: str = MISSING
    scheduler: str = "local"
    shards: int = 2
    simulators: int = 1
    cpus: str | None = None
    gpus: str | None = None
    restarts: int = 2
    shards_per_task: int = 1
    array_parallelism: int | None = None
    max_requeues: int = 10
    max_resubmits: int = 3
    max_memory_raises: int = 2
    sbatch: dict[str, Any] = field(default_factory=dict)
    server: dict[str, Any] = field(default_factory=dict)
    shard: dict[str, Any] = field(default_factory=dict)
    merge: dict[str, Any] = field(default_factory=dict)


@dataclass
class ServerConfig:
    """How server and shards meet; times in seconds, null for no limit."""

    url: str | None = None
    host: str = "127.0.0.1"
    port: int = 0
    answer_timeout: float = 120.0
    wait_timeout: float | None = 600.0
    idle_timeout: float | None = None
    codec: str = "raw"


@dataclass
class TrackingConfig:
    """An experiment tracker that every merge is told to; offline: into files beside the run."""

    name: str = "none"
    project: str = "vlaeval_hpc"
    entity: str | None = None
    uri: str | None = None
    offline: bool = True


@dataclass
class RecordingConfig:
    """What is kept of episodes: a `video` (mp4), the `steps` (Parquet). which: all, failures, or so many a task."""

    name: str = "none"
    video: bool = False
    steps: bool = False
    which: Any = "all"
    cameras: list[str] | None = None
    every: int = 1
    fps: float = 20.0


@dataclass
class ModeConfig:
    """How time passes. sync: the simulator waits for the policy. realtime: it does not; the rest is for that alone."""

    name: str = "sync"
    hz: float = 10.0
    pace: float | None = 1.0
    wait_first_action: bool = False
    latency: int | None = None
    execute_horizon: int | None = None


@dataclass
class SweepConfig:
    """Of a sweep alone. stop never: every point runs all its episodes; early: one that is clearly worse is stopped."""

    stop: str = "never"


@dataclass
class Config:
    """One evaluation."""

    model: ModelConfig = field(default_factory=ModelConfig)
    benchmark: BenchmarkConfig = field(default_factory=BenchmarkConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    server: ServerConfig = field(default_factory=ServerConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    recording: RecordingConfig = field(default_factory=RecordingConfig)
    mode: ModeConfig = field(default_factory=ModeConfig)
    results: str = "results"
    run: str | None = None
    submit: bool = True
    accept_license: bool = False
    sharding: str = "static"
