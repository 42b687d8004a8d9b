"""What a benchmark and a policy say of themselves, asked in their own environments before anything starts."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from vlaeval_hpc.config.schema import BenchmarkConfig
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.launch.cache import cache_folder, digest
from vlaeval_hpc.launch.runtime import PACKAGE, Runtime
from vlaeval_hpc.run.files import write_json


def describe_benchmark(benchmark: BenchmarkConfig, runtime: Runtime) -> dict[str, Any]:
    """tasks, metrics, max_steps, episodes_per_task and specs.

    Those of our own benchmarks are kept in the cache, since simulators import slowly; other people's code may change.
    """
    section = {"target": benchmark.target, "params": benchmark.params, "seed": benchmark.seed}
    where = [runtime.python, runtime.image.digest if runtime.image else None]
    kept = cache_folder() / "descriptions" / f"{benchmark.name}-{digest([section, where, _sources()])}.json"
    ours = benchmark.target.startswith("vlaeval_hpc.")
    if ours:
        with suppress(OSError, ValueError):
            known: dict[str, Any] = json.loads(kept.read_text())
            return known
    with Described(runtime, "vlaeval_hpc.worker", "benchmark") as described:
        found = described.ask({"benchmark": section})
    if ours:
        kept.parent.mkdir(exist_ok=True)
        write_json(kept, found)
    return found


class Described:
    """A process in a runtime that answers what its policies or benchmarks are; started at the first question.

    `verb` check: what they do (launch.conformance), with `variables`, and `nv` as Runtime.command has it. Answers are
    not kept: a checkpoint's content may change under its name. `with` ends it.
    """

    def __init__(
        self,
        runtime: Runtime,
        module: str,
        kind: str,
        verb: str = "describe",
        variables: Mapping[str, str] | None = None,
        nv: bool = False,
    ) -> None:
        self._runtime = runtime
        self._module = module
        self._kind = kind
        self._verb = verb
        self._variables = variables
        self._nv = nv
        self._scratch = Path(tempfile.mkdtemp(prefix="vlaeval_hpc-"))
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Described:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            assert self._process.stdin is not None
            with suppress(BrokenPipeError):
                self._process.stdin.close()  # by which it ends; killed, a container would leave its mount behind
            try:
                self._process.wait(5.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            if self._process.stdout is not None:
                self._process.stdout.close()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def ask(self, question: dict[str, Any], binds: Sequence[str] = ()) -> dict[str, Any]:
        """The answer. Raises ConfigurationError, with what the process said against the question."""
        if self._process is None or self._process.poll() is not None:
            self._start(binds)
        assert self._process is not None and self._process.stdin is not None and self._process.stdout is not None
        line = ""
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        try:
            answer: dict[str, Any] = json.loads(line)
        except ValueError:
            raise self._broken() from None
        if "error" in answer:
            raise ConfigurationError(answer["error"])
        return answer

    def _start(self, binds: Sequence[str]) -> None:
        self._errors = self._scratch / "stderr"
        with self._errors.open("wb") as stream:
            self._process = subprocess.Popen(
                self._runtime.command(self._module, [self._verb], scratch=self._scratch, binds=binds, nv=self._nv),
                env=self._runtime.variables(self._variables),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                text=True,
            )

    def _broken(self) -> ConfigurationError:
        assert self._process is not None
        status = self._process.wait()
        told = self._errors.read_text(errors="replace")
        lines = [line.strip() for line in told.splitlines() if line.strip()]
        last = lines[-1] if lines else f"exit status {status}"
        kind = self._runtime.environment.kind
        error = ConfigurationError(f"{self._kind} '{kind}' environment: {last} (-v shows all)")
        error.__cause__ = RuntimeError("\n" + told)
        return error


def _sources() -> str:
    """A hash of the code that describes: a description outlives no change of its benchmark."""
    sources = hashlib.sha256()
    for path in sorted(p for room in ("benchmarks", "wire", "worker") for p in (PACKAGE / room).rglob("*.py")):
        sources.update(path.read_bytes())
    return sources.hexdigest()
