"""mode=realtime: the simulator does not wait for the policy.

Time passes in control steps of 1 / hz seconds. At each one the action of that moment is applied: the newest chunk's,
without its first actions where those were meant for moments that are past, or the benchmark's hold action where there
is none. The policy thinks meanwhile, about the newest observation as soon as it has answered the last (continuous
inference).

Either time is the wall's (`pace` times as fast), or, with `latency`, an answer comes so many control steps after its
observation, whatever time it takes: then the outcome is a fact like any other.
"""

from __future__ import annotations

import threading
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Union

import numpy as np

from vlaeval_hpc.benchmarks.base import Benchmark, Observation
from vlaeval_hpc.worker.blame import Blame
from vlaeval_hpc.worker.recording import Take

Ask = Callable[[Observation], "np.ndarray[Any, Any]"]

MEASURED = ("stale_action_ratio", "effective_control_hz")
"""What of a report counts among an episode's metrics."""

LATE_STEPS = 10  # the longest of so many delays is what the next answer is taken to need


class Mode(NamedTuple):
    """The plan's `mode`. Times are in control steps; `pace` None: as fast as the simulator steps."""

    hz: float
    pace: Optional[float]
    wait_first_action: bool
    latency: Optional[int]
    execute_horizon: int

    @classmethod
    def of(cls, section: Dict[str, Any]) -> "Mode":
        """From the plan's section."""
        horizon = int(section.get("execute_horizon") or 1)
        return cls(section["hz"], section["pace"], section["wait_first_action"], section["latency"], horizon)


class Answer(NamedTuple):
    """A chunk (k, dim), and the step at which its observation was made."""

    step: int
    actions: "np.ndarray[Any, Any]"


class Question(NamedTuple):
    """An observation, and the step at which it was made."""

    step: int
    observation: Observation


class Drive:
    """The control loop of one episode. `ask` gives the policy's chunk for an observation, and may take its time."""

    def __init__(self, mode: Mode, benchmark: Benchmark, take: Take, ask: Ask, alive: Callable[[str], None]) -> None:
        self._mode = mode
        self._benchmark = benchmark
        self._take = take
        self._alive = alive
        self._asker: Union[_Thinking, _Delayed] = (
            _Thinking(ask) if mode.latency is None else _Delayed(ask, mode.latency)
        )
        self._chunk: List[Any] = []
        self._last: Optional[Any] = None
        self._asked = -mode.execute_horizon
        self._delays: List[int] = []
        self._stale = self._overruns = 0
        self._step_times: List[float] = []
        self._elapsed = 0.0
        self.steps = 0

    def run(self, max_steps: int, restart: Callable[[], None]) -> None:
        """Until the episode is over. `restart` is called where a new instruction begins.

        Raises what `ask` raised, and the simulator's errors.
        """
        mode, period = self._mode, self._period()
        done = False
        try:
            begin: Optional[float] = None
            while not done and self.steps < max_steps:
                self._alive("step")
                self._offer()
                if self.steps == 0 and mode.wait_first_action:
                    self._asker.wait()
                if begin is None:
                    begin = time.monotonic()  # the reset is not timed, nor a first action that is waited for
                self._receive()
                done = self._step(max_steps)
                if self._take.restarted and not done:
                    self._asker.wait()
                    self._asker.answers(self.steps)
                    self._chunk = []
                    self._asked = self.steps - mode.execute_horizon
                    restart()
                if period and not done:
                    left = begin + self.steps * period - time.monotonic()
                    self._overruns += left < 0
                    time.sleep(max(0.0, left))
            self._elapsed = time.monotonic() - (begin or 0.0)
        finally:
            self._asker.end()

    def report(self) -> Dict[str, Any]:
        """vla-eval's `rt_metrics`, of the steps with a fresh action (update) and with the hold action (stale); and how
        late answers were, in control steps, and how many steps began late by the wall's clock."""
        seconds = self._elapsed if self._mode.latency is None else self.steps / self._mode.hz
        fresh = self.steps - self._stale
        times = self._step_times or [0.0]
        return {
            "update_count": fresh,
            "stale_count": self._stale,
            "stale_action_ratio": round(self._stale / max(1, self.steps), 6),
            "effective_control_hz": round(fresh / seconds, 3) if seconds > 0 else 0.0,
            "step_time_mean": round(sum(times) / len(times), 6),
            "step_time_max": round(max(times), 6),
            "inference_count": len(self._delays),
            "delay_mean": round(sum(self._delays) / max(1, len(self._delays)), 3),
            "delay_max": max(self._delays, default=0),
            "overrun_count": int(self._overruns),
        }

    def _period(self) -> float:
        """Seconds of the wall's clock between two steps, 0 where nothing is waited for."""
        mode = self._mode
        return 0.0 if mode.latency is not None or mode.pace is None else 1.0 / (mode.hz * mode.pace)

    def _offer(self) -> None:
        """Show the policy what is there now, where it is time for another answer."""
        if self.steps - self._asked < self._mode.execute_horizon or not self._asker.wants(self.steps):
            return
        latency = self._mode.latency
        delay = max(self._delays[-LATE_STEPS:], default=0) if latency is None else latency
        told = {"step": self.steps, "delay": delay, "execute_horizon": self._mode.execute_horizon}
        with Blame("simulator_step"):
            observation = self._take.observe()
        self._asker.see(self.steps, {**observation, "realtime": told})
        self._asked = self.steps

    def _receive(self) -> None:
        """Carry out the newest answer from the action of now on; of one that is later than it is long, the last."""
        for answer in self._asker.answers(self.steps):
            late = self.steps - answer.step
            self._delays.append(late)
            chunk = list(answer.actions)
            self._chunk = chunk[min(late, len(chunk) - 1) :]

    def _step(self, max_steps: int) -> bool:
        fresh = bool(self._chunk)
        if fresh:
            self._last = self._chunk.pop(0)
            action = self._last
        else:
            self._stale += 1
            action = self._benchmark.hold(self._last)
        next_step = self.steps + 1
        due = next_step - self._asked >= self._mode.execute_horizon and self._asker.wants(next_step)
        begin = time.monotonic()
        with Blame("simulator_step"):
            done = self._take.step(np.asarray(action), due and next_step < max_steps)
        self._step_times.append(time.monotonic() - begin)
        self.steps = next_step
        return done


class _Thinking:
    """A policy that thinks while time passes: it is asked in a thread, and answers when it does."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._changed = threading.Condition()
        self._question: Optional[Question] = None
        self._given: List[Answer] = []
        self._error: Optional[BaseException] = None
        self._busy = self._ended = False
        self._thread: Optional[threading.Thread] = None

    def wants(self, step: int) -> bool:
        """Always: it takes the newest observation when it is free."""
        return True

    def see(self, step: int, observation: Observation) -> None:
        """The newest observation."""
        with self._changed:
            self._question = Question(step, observation)
            self._changed.notify_all()
        if self._thread is None:
            self._thread = threading.Thread(target=self._think, name="policy", daemon=True)
            self._thread.start()

    def answers(self, step: int) -> List[Answer]:
        """What has come since, in order. Raises what the policy raised."""
        with self._changed:
            if self._error is not None:
                raise self._error
            given, self._given = self._given, []
            return given

    def wait(self) -> None:
        """Until nothing is in flight."""
        with self._changed:
            self._changed.wait_for(lambda: not self._busy and self._question is None)

    def end(self) -> None:
        """No further question; the connection is free when this returns."""
        with self._changed:
            self._question, self._ended = None, True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _think(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._ended or (self._question is not None and self._error is None))
                if self._ended:
                    return
                question, self._question, self._busy = self._question, None, True
            assert question is not None
            try:
                answer: Any = Answer(question.step, self._ask(question.observation))
            except BaseException as error:  # the loop's to raise
                answer = error
            with self._changed:
                self._busy = False
                if isinstance(answer, Answer):
                    self._given.append(answer)
                else:
                    self._error, self._question = answer, None
                self._changed.notify_all()


class _Delayed:
    """A policy whose answers come `latency` control steps after their observation; the simulator waits meanwhile."""

    def __init__(self, ask: Ask, latency: int) -> None:
        self._ask = ask
        self._latency = latency
        self._in_flight: Optional[Answer] = None
        self._given: List[Answer] = []
        self._free_at = 0

    def wants(self, step: int) -> bool:
        """Whether it has answered by then."""
        return step >= self._free_at

    def see(self, step: int, observation: Observation) -> None:
        """An observation, answered now, to be told later."""
        self._land()
        self._in_flight = Answer(step, self._ask(observation))
        self._free_at = step + self._latency

    def answers(self, step: int) -> List[Answer]:
        """What has come since. Raises what the policy raised."""
        if step >= self._free_at:
            self._land()
        given, self._given = self._given, []
        return given

    def wait(self) -> None:
        """The answer that is in flight comes at once."""
        self._free_at = 0

    def end(self) -> None:
        """Nothing is in flight."""

    def _land(self) -> None:
        if self._in_flight is not None:
            self._given.append(self._in_flight)
            self._in_flight = None
