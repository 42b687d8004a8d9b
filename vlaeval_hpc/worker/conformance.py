"""What a benchmark does, as digests to be compared: episodes of random actions, looked at at each step or now and then.

`worker check` answers a line of JSON for each question: which episodes to play, one after the other, in this process.
launch.conformance asks several processes, and compares.
"""

from __future__ import annotations

import hashlib
import os
import resource
import time
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping

import numpy as np

from vlaeval_hpc.benchmarks.base import Benchmark, Observation
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.wire.messages import OBSERVATION, Message
from vlaeval_hpc.wire.specs import Specs, action_dim
from vlaeval_hpc.worker.simulator import make_benchmark

Look = Dict[str, str]  # `images.CAMERA`, `states`, `task_description`, ... -> digest, or the text itself


def digest(*parts: Any) -> str:
    """Of arrays: their bytes, types and shapes."""
    found = hashlib.sha256()
    for part in parts:
        array = np.ascontiguousarray(part)
        found.update(f"{array.dtype.str}{array.shape}".encode() + array.tobytes())
    return found.hexdigest()[:20]


def looked(observation: Observation) -> Look:
    """An observation by digests, one a name."""
    found = {}
    for key, value in sorted(observation.items()):
        inner = value if isinstance(value, dict) else {"": value}
        for name, part in sorted(inner.items()):
            label = f"{key}.{name}" if name else key
            found[label] = part if isinstance(part, str) else digest(part)
    return found


def random_actions(specs: Specs, words: str, steps: int) -> "np.ndarray[Any, Any]":
    """Actions (steps, dim) float32, uniform over each component's range, or [-1, 1]; `words` seed them."""
    rng = np.random.RandomState(int.from_bytes(hashlib.sha256(words.encode()).digest()[:4], "big"))
    parts = []
    for spec in specs.values():
        low, high = spec.range or (-1.0, 1.0)
        parts.append(rng.uniform(low, high, (steps, spec.dims)))
    return np.concatenate(parts, axis=1).astype(np.float32)


def play(benchmark: Benchmark, task: Mapping[str, Any], episode: int, steps: int, every: int = 1) -> Dict[str, Any]:
    """An episode of random actions, the same for the same task and episode.

    `looks`: what is seen at the start and after each `every`-th step. `ended`: the step that ended it, None where none
    did. `result`. `faults`: where what is given is not what the specs say. `seconds`: of the reset, and the median of a
    step that nobody looks at, and of one with the look (None where there was none). `observations`: as they came.
    """
    began = time.perf_counter()
    benchmark.reset(task, episode)
    seconds: Dict[str, Any] = {"reset": time.perf_counter() - began, "step": None, "look": None}
    taken: Dict[str, List[float]] = {"step": [], "look": []}
    seen = [benchmark.observe()]
    ended = None
    faults: List[str] = []
    for i, action in enumerate(random_actions(benchmark.action_spec, f"{task['name']}/{episode}", steps)):
        look = (i + 1) % every == 0
        began = time.perf_counter()
        done = benchmark.step(action, look)
        if look:
            seen.append(benchmark.observe())
        taken["look" if look else "step"].append(time.perf_counter() - began)
        faults += _asides(benchmark, action, seen[-1] if look else {})
        if done:
            ended = i
            if not benchmark.step(action, True):
                faults.append("a step after the end says that the episode is not over")
            break
    result = benchmark.result()
    for kind, times in taken.items():
        if times:
            seconds[kind] = float(np.median(times))
    return {
        "looks": [looked(one) for one in seen],
        "ended": ended,
        "result": {k: float(v) for k, v in result.items()},
        "faults": faults + [f for one in seen for f in _faults(benchmark, one)] + _result_faults(benchmark, result),
        "seconds": seconds,
        "observations": seen,
    }


def answer(question: Dict[str, Any]) -> Dict[str, Any]:
    """`benchmark` (the config's section), `select`, `steps`, `episodes` [[task, episode, every], ...]; null in their
    place closes the simulator. `keep`: a folder for what was seen in them, as messages. The answer: `plays`, `memory`
    in bytes."""
    benchmark = make_benchmark(question["benchmark"])
    benchmark.select(question["select"])
    plays = []
    for i, asked in enumerate(question["episodes"]):
        if asked is None:
            benchmark.close()
            continue
        _disturb()
        task, episode, every = asked
        played = play(benchmark, task, episode, question["steps"], every)
        observations = played.pop("observations")
        if question.get("keep"):
            folder = Path(question["keep"]) / str(i)
            folder.mkdir()
            for n, seen in enumerate(observations):
                (folder / f"{n:04}").write_bytes(Message(OBSERVATION, seen, n).pack())
        played["faults"] = list(dict.fromkeys(played["faults"]))
        plays.append(played)
    benchmark.close()
    return {"plays": plays, "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def _disturb() -> None:
    """What an episode must not depend on: the state of numpy's own generator."""
    np.random.seed(int.from_bytes(os.urandom(4), "big"))


def _faults(benchmark: Benchmark, observation: Observation) -> List[str]:
    """Where an observation is not what was selected, or not as its spec says."""
    cameras = benchmark.cameras
    images = observation.get("images", {})
    found = []
    if sorted(images) != sorted(cameras):
        found.append(f"images of {_list(images)}, selected {_list(cameras)}")
    for name, frame in images.items():
        if getattr(frame, "dtype", None) != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            found.append(f"{name}: not (height, width, 3) uint8")
    for key, name in (("states", "state"), ("task_description", "language")):
        if (key in observation) != (name in benchmark.selected):
            found.append(
                f"{key} is {'given' if key in observation else 'missing'}, selected: {_list(benchmark.selected)}"
            )
    if "states" in observation and "state" in benchmark.observation_spec:
        states, dims = np.asarray(observation["states"]), benchmark.observation_spec["state"].dims
        if states.shape != (dims,) or states.dtype.kind != "f" or not np.isfinite(states).all():
            found.append(f"states: {states.dtype} {states.shape}, not {dims} finite floats")
    if not isinstance(observation.get("task_description", ""), str):
        found.append("task_description is no text")
    return found


def _asides(benchmark: Benchmark, last: Any, seen: Observation) -> List[str]:
    """Where what is asked at any time, looked at or not, is not as promised: the state, the hold action."""
    found = []
    state = benchmark.state()
    if state is not None and "states" in seen and not np.array_equal(state, np.asarray(seen["states"])):
        found.append("state() is not what observe gives")
    try:
        held = [np.asarray(benchmark.hold(given)) for given in (None, np.asarray(last, np.float64))]
    except ConfigurationError:
        held = []  # there is none
    dim = action_dim(benchmark.action_spec)
    if any(action.shape != (dim,) or not np.isfinite(action).all() for action in held):
        found.append(f"hold() gives no {dim} finite numbers")
    return found


def _result_faults(benchmark: Benchmark, result: Mapping[str, Any]) -> List[str]:
    if set(result) == set(benchmark.metrics):
        return []
    return [f"result gives {_list(result)}, metrics are {_list(benchmark.metrics)}"]


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
