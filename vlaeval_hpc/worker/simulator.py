"""The process that holds the simulator: told an episode at a time, it answers with its record.

It is a process of its own because simulators hang in native code, crash, and are killed for memory; its shard outlives
it. Lines of JSON go both ways over a socket that the shard hands down.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import sys
import time
import traceback
from typing import Any, Dict

from vlaeval_hpc.benchmarks.base import Benchmark
from vlaeval_hpc.errors import ConfigurationError, InfrastructureError
from vlaeval_hpc.run.directory import RunDirectory
from vlaeval_hpc.run.lifeline import supervisor
from vlaeval_hpc.run.output import print_what_fits
from vlaeval_hpc.run.plan import Item, Plan
from vlaeval_hpc.run.target import build
from vlaeval_hpc.wire.specs import misfits
from vlaeval_hpc.worker.client import POLL, Client, ServerLost, server_specs
from vlaeval_hpc.worker.episode import run_episode
from vlaeval_hpc.worker.realtime import Mode
from vlaeval_hpc.worker.recording import Recorder
from vlaeval_hpc.worker.supervisor import CHANNEL


class SimulatorProcess:
    """The loop of the child process."""

    def __init__(self, run: RunDirectory, shard: int, channel: socket.socket) -> None:
        self._run = run
        self._plan = Plan.load(run.plan)
        self._questions = channel.makefile("r", encoding="utf-8")
        self._channel = channel
        self._last_beat = 0.0
        self._last_phase = ""
        self._began = time.time()
        self._waited = 0.0
        self._observed = self._prepared = False
        self._client = Client(run, self._plan.run, shard, self._plan.server, self.alive)
        self._benchmark = make_benchmark(self._plan.benchmark)
        self._recorder = Recorder(run, shard, self._plan)
        self._mode = Mode.of(self._plan.mode) if self._plan.mode else None

    def alive(self, phase: str) -> None:
        """Tell the shard that there is motion: every POLL seconds, and before what may take long."""
        now = time.monotonic()
        if phase == "policy" and not self._observed:
            self._observed = True
            at = time.time()
            since = at - (supervisor() or {}).get("since", self._began)
            waited = f"{self._waited:.2f} s for a server"
            print(f"at {at:.2f}: first observation, {since:.2f} s after the start, {waited}", flush=True)
        if now - self._last_beat >= POLL or (phase in ("reset", "server") and phase != self._last_phase):
            self._last_beat, self._last_phase = now, phase
            self._tell({"beat": phase})

    def serve(self) -> None:
        """Run the episodes asked for, until the shard closes the channel."""
        selected = False
        for line in self._questions:
            item = Item(**json.loads(line))
            self._client.leave_draining()
            while True:
                if not self._client.connected:
                    self._prepare(item)
                    begin = time.monotonic()
                    self._client.connect(self._plan.name)
                    self._waited = time.monotonic() - begin
                    self._tell({"server": self._client.info})
                if not selected:
                    self._recorder.select(self._benchmark, self._wanted())
                    selected = True
                max_steps = self._plan.benchmark["max_steps"]
                try:
                    task = self._plan.task(item.task)
                    record = run_episode(
                        self._benchmark,
                        task,
                        item,
                        self._client,
                        max_steps,
                        self.alive,
                        self._recorder,
                        self._mode,
                    )
                    break
                except ServerLost as error:
                    print(f"{item.task} episode {item.episode}: {error}; again when a server is there", flush=True)
            if record.get("failure_reason", "").startswith("simulator"):
                self._rebuild()
            self._tell({"episode": record})

    def _prepare(self, item: Item) -> None:
        """While no server is there yet: make the simulator, for what the policy is expected to look at, so that of the
        episode's start its own reset is left. What goes wrong here, the episode's own start will tell."""
        if self._prepared or any(self._run.server.glob("rendezvous-*.json")):
            return
        self._prepared = True
        expected = self._plan.benchmark.get("expected")
        if not expected:
            return
        try:
            self.alive("reset")
            self._recorder.select(self._benchmark, expected)
            self._benchmark.reset(self._plan.task(item.task), item.episode)
            print(f"at {time.time():.2f}: the simulator is ready", flush=True)
        except Exception:
            traceback.print_exc()
            self._rebuild()

    def _wanted(self) -> Any:
        """What to look at: the config's word, else the server's, else what its vla-eval parameters ask for."""
        benchmark = self._benchmark
        observed = server_specs(self._client.info, "observation_spec")
        wrong = misfits(
            server_specs(self._client.info, "action_spec"), benchmark.action_spec, observed, benchmark.observation_spec
        )
        if wrong:
            raise ConfigurationError(f"the server's policy does not fit {self._plan.name}: {'; '.join(wrong)}")
        wanted = self._plan.benchmark.get("observe") or list(observed)
        if wanted:
            return wanted
        params = self._client.info.get("observation_params") or {}
        optional = {"wrist": params.get("send_wrist_image"), "state": params.get("send_state")}
        return [k for k in benchmark.observation_spec if optional.get(k, True)]

    def _rebuild(self) -> None:
        try:
            self._benchmark.close()
        except Exception:
            traceback.print_exc()

    def _tell(self, value: Dict[str, Any]) -> None:
        self._channel.sendall((json.dumps(value) + "\n").encode())


def make_benchmark(section: Dict[str, Any]) -> Benchmark:
    """The benchmark that the config's section names, without its simulator."""
    arguments = {"seed": section["seed"], **(section.get("params") or {})}
    benchmark = build("benchmark", section["target"], arguments)
    if not isinstance(benchmark, Benchmark):
        raise ConfigurationError(f"benchmark.target: {section['target']} is no Benchmark")
    return benchmark


def _die_with(parent: int) -> None:
    """Ask the kernel for SIGKILL when the shard dies: a simulator must not outlive it and take a second one's place."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def main() -> int:
    """`python bootstrap.py vlaeval_hpc.worker.simulator RUN SHARD PARENT`, with the channel's number in CHANNEL."""
    folder, shard, parent = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    print_what_fits()
    _die_with(parent)
    # Ctrl-C reaches the whole group, and Slurm's signals every process of a step: the shard decides, and kills.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    channel = socket.socket(fileno=int(os.environ.pop(CHANNEL)))
    try:
        SimulatorProcess(RunDirectory(folder), shard, channel).serve()
    except (ConfigurationError, InfrastructureError) as error:
        channel.sendall((json.dumps({"fatal": str(error), "code": error.exit_code}) + "\n").encode())
        return error.exit_code
    except (BrokenPipeError, ConnectionResetError):
        return 1  # the shard is gone
    return 0


if __name__ == "__main__":
    sys.exit(main())
