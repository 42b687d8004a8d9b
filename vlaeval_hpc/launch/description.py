"""What a benchmark and a policy say of themselves, asked in their own environments before anything starts."""

from __future__ import annotations

import hashlib
import json
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vlaeval_hpc.config.schema import BenchmarkConfig, ModelConfig
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.launch.cache import cache_folder, digest
from vlaeval_hpc.launch.environment import process_environment
from vlaeval_hpc.run.files import write_json

PACKAGE = Path(__file__).resolve().parent.parent
BOOTSTRAP = PACKAGE / "bootstrap.py"


def command(python: Path, module: str, *arguments: str) -> list[str]:
    """The line that starts a module of this package in another interpreter."""
    return [str(python), str(BOOTSTRAP), module, *arguments]


def describe_benchmark(benchmark: BenchmarkConfig, python: Path) -> dict[str, Any]:
    """tasks, metrics, max_steps, episodes_per_task and specs; ours are kept in the cache: simulators import slowly."""
    section = {"target": benchmark.target, "params": benchmark.params, "seed": benchmark.seed}
    key = digest([section, str(python), _sources()])
    kept = cache_folder() / "descriptions" / f"{benchmark.name}-{key}.json"
    try:
        found: dict[str, Any] = json.loads(kept.read_text())
        return found
    except (OSError, ValueError):
        pass
    found = _ask(
        command(python, "vlaeval_hpc.worker", "describe"), {"benchmark": section}, benchmark.environment, "benchmark"
    )
    kept.parent.mkdir(exist_ok=True)
    write_json(kept, found)
    return found


def describe_policy(model: ModelConfig, python: Path) -> dict[str, Any]:
    """Specs and the checkpoint's hashes; not kept, since a checkpoint's content may change under its name."""
    asking = command(python, "vlaeval_hpc.serving", "describe")
    return _ask(asking, {"model": asdict(model)}, model.environment, "model")


def _ask(arguments: list[str], question: dict[str, Any], environment: Any, kind: str) -> dict[str, Any]:
    done = subprocess.run(
        arguments, input=json.dumps(question), capture_output=True, text=True, env=process_environment(environment)
    )
    if done.returncode == 0:
        try:
            found: dict[str, Any] = json.loads(done.stdout)
            return found
        except ValueError:
            pass
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    told = [line for line in lines if line.startswith("error: ")]
    if told:
        raise ConfigurationError(told[-1].removeprefix("error: "))
    last = lines[-1].strip() if lines else f"exit status {done.returncode}"
    raise ConfigurationError(f"{kind} '{asdict(environment)['kind']}' environment: {last} (-v shows all)") from (
        RuntimeError("\n" + done.stderr)
    )


def _sources() -> str:
    """A hash of the code that describes: a description outlives no change of its benchmark."""
    sources = hashlib.sha256()
    for path in sorted(p for room in ("benchmarks", "wire", "worker") for p in (PACKAGE / room).rglob("*.py")):
        sources.update(path.read_bytes())
    return sources.hexdigest()
