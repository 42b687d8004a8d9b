"""Every key of the configuration, with its type and default; conf/ gives the values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING


@dataclass
class EnvironmentConfig:
    """Where a benchmark or a policy runs.

    kind host is this interpreter; venv is a virtual environment of `requirements`, made once and kept in the cache,
    for `python` (a version or a path; null: this interpreter's version). `variables` are set for the process.
    """

    kind: str = "host"
    python: str | None = None
    requirements: list[str] = field(default_factory=list)
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
    max_batch_size: int = 1
    max_wait_time: float = 0.01


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
    environment: EnvironmentConfig = field(default_factory=EnvironmentConfig)


@dataclass
class ClusterConfig:
    """Where the server and the shards run."""

    name: str = MISSING
    shards: int = 2
    cpus: str | None = None
    gpus: str | None = None
    restarts: int = 2


@dataclass
class ServerConfig:
    """How server and shards meet; times in seconds."""

    url: str | None = None
    host: str = "127.0.0.1"
    port: int = 0
    answer_timeout: float = 120.0
    wait_timeout: float = 600.0
    idle_timeout: float | None = None


@dataclass
class Config:
    """One evaluation."""

    model: ModelConfig = field(default_factory=ModelConfig)
    benchmark: BenchmarkConfig = field(default_factory=BenchmarkConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    server: ServerConfig = field(default_factory=ServerConfig)
    results: str = "results"
    run: str | None = None
