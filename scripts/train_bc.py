"""Make the checkpoints of the policy `bc` from nothing: demonstrate, train, write; or score those that are there.

    python scripts/train_bc.py --out vlaeval_hpc/policies/bc_checkpoints
    python scripts/train_bc.py --out vlaeval_hpc/policies/bc_checkpoints --evaluate 20
    python scripts/train_bc.py --out runs/x/checkpoints --episodes 10 --steps 0,300,1000

Runs in the environment of the benchmark `metaworld`. The same machine gives the same bits, however many cores it has. A
checkpoint is there whole or not at all.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import multiprocessing
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # BLAS adds in an order that depends on its threads; the cores run processes

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent.parent))

from vlaeval_hpc.benchmarks.metaworld import INSTRUCTIONS, SUITES, MetaWorld
from vlaeval_hpc.policies.base import Session
from vlaeval_hpc.policies.bc import ACTION_DIM, BC, HIDDEN, Network, words

Array = NDArray[np.floating[Any]]

STEPS = (0, 30, 100, 300, 1000, 3000, 10000)
EPISODES = 100
NOISE = (0.0, 0.4, 0.45, 0.5)
AFTER_SUCCESS = 20
BATCH = 256
LEARNING_RATE = 1e-3
TRAINING_SEED = -1  # evaluations count their seeds from 0, so that no start is in both
EVALUATION_SEED = 0


def demonstrate(task: str, episodes: int) -> tuple[Array, Array]:
    """(n, 39) states met and (n, 4) actions that the expert would take there, from so many starts.

    Three episodes in four act with noise, so that the states show how to recover; the expert's action is the label.
    Each goes on for some steps after its success, or the policy would stall where success begins.
    """
    from metaworld.policies import ENV_POLICY_MAP

    benchmark = MetaWorld(seed=TRAINING_SEED)
    benchmark.select(["state"])
    states, labels = [], []
    for episode in range(episodes):
        noise = np.random.default_rng(episode)
        expert = ENV_POLICY_MAP[task]()
        benchmark.reset({"name": task, "instruction": INSTRUCTIONS[task]}, episode)
        left = benchmark.max_steps
        while left:
            state = benchmark.observe()["states"]
            # A copy: the expert of door-open writes into the state that it is given.
            label = np.clip(expert.get_action(state.copy()), -1, 1)
            states.append(state)
            labels.append(label)
            won = benchmark.step(label + NOISE[episode % len(NOISE)] * noise.standard_normal(ACTION_DIM))
            left = min(left - 1, AFTER_SUCCESS) if won else left - 1
    benchmark.close()
    return np.array(states, dtype=np.float32), np.array(labels, dtype=np.float32)


def untrained(states: Array, tasks: tuple[str, ...], random: np.random.Generator) -> Network:
    """A network with the states' scale, the instructions' vocabulary and weights at random."""
    # To float16 now, as the checkpoints hold it: training then sees the scale that inference will.
    mean = states.mean(axis=0).astype(np.float16).astype(np.float32)
    std = states.std(axis=0).astype(np.float16).astype(np.float32)
    std[std < 1e-3] = 1  # a number that never moves tells nothing
    vocabulary = tuple(sorted(set().union(*(words(INSTRUCTIONS[task]) for task in tasks))))
    sizes = (states.shape[1] + len(vocabulary), HIDDEN, HIDDEN, ACTION_DIM)
    layers = tuple(
        (
            (random.standard_normal((fan_in, fan_out)) * np.sqrt(2 / fan_in)).astype(np.float32),
            np.zeros(fan_out, dtype=np.float32),
        )
        for fan_in, fan_out in itertools.pairwise(sizes)
    )
    return Network(mean, std, vocabulary, layers)


def gradients(network: Network, features: Array, labels: Array) -> list[Array]:
    """Of the mean squared error, for each layer's weight and bias in order."""
    outputs = network.forward(features)
    delta = 2 * (outputs[-1] - labels) * (1 - outputs[-1] ** 2) / np.float32(labels.size)
    found: list[Array] = []
    for i in reversed(range(len(outputs))):
        below = outputs[i - 1] if i else features
        found = [below.T @ delta, delta.sum(axis=0), *found]
        if i:
            delta = (delta @ network.layers[i][0].T) * (below > 0)
    return found


def train(
    network: Network, shown: list[tuple[Array, Array]], random: np.random.Generator, out: Path, steps: tuple[int, ...]
) -> None:
    """Adam (arXiv:1412.6980) on features and labels by task; writes the running average at each of `steps`."""
    averaged = copy.deepcopy(network)
    numbers, averages = ([array for layer in n.layers for array in layer] for n in (network, averaged))
    first, second = ([np.zeros_like(array) for array in numbers] for _ in range(2))
    lengths = np.array([len(features) for features, _ in shown])
    starts = np.cumsum(lengths) - lengths
    features, labels = (np.concatenate(arrays) for arrays in zip(*shown, strict=True))
    for step in range(max(steps) + 1):
        if step in steps:
            path = out / f"step-{step:06d}.npz"
            hidden = path.with_name(f".{path.name}")
            averaged.save(hidden)
            hidden.replace(path)
        # The tasks in equal parts: reach is the shortest, and forgives the least error.
        task = random.integers(len(shown), size=BATCH)
        rows = starts[task] + random.integers(lengths[task])
        rate = np.float32(LEARNING_RATE * np.sqrt(1 - 0.999 ** (step + 1)) / (1 - 0.9 ** (step + 1)))
        # The average runs over the last 100 steps, from fewer at the beginning.
        share = np.float32(max(0.01, 9 / (10 + step)))
        slopes = gradients(network, features[rows], labels[rows])
        for array, average, m, v, g in zip(numbers, averages, first, second, slopes, strict=True):
            m += np.float32(0.1) * (g - m)
            v += np.float32(0.001) * (g * g - v)
            array -= rate * m / (np.sqrt(v) + np.float32(1e-8))
            average += share * (array - average)


def score(job: tuple[Path, str, int]) -> int:
    """How many of the first episodes of a task a checkpoint wins."""
    path, task, episodes = job
    policy = BC(checkpoint=str(path))
    policy.load()
    benchmark = MetaWorld(seed=EVALUATION_SEED)
    benchmark.select(policy.observation_spec)
    won = 0
    for episode in range(episodes):
        benchmark.reset({"name": task, "instruction": INSTRUCTIONS[task]}, episode)
        for _ in range(benchmark.max_steps):
            chunk = policy.predict([benchmark.observe()], [Session(id="")])[0]
            if benchmark.step(chunk[0]):
                won += 1
                break
    benchmark.close()
    return won


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoints")
    parser.add_argument("--evaluate", type=int, metavar="EPISODES", help="score the first EPISODES of each task")
    parser.add_argument("--episodes", type=int, default=EPISODES, help="demonstrations of each task (%(default)s)")
    parser.add_argument("--steps", default=",".join(map(str, STEPS)), help="when to write (%(default)s)")
    args = parser.parse_args()
    steps = tuple(map(int, args.steps.split(",")))
    tasks = SUITES["bc5"]
    start = time.monotonic()
    with multiprocessing.get_context("spawn").Pool() as pool:
        if args.evaluate:
            paths = sorted(args.out.glob("step-*.npz"))
            won = iter(pool.map(score, [(path, task, args.evaluate) for path in paths for task in tasks], chunksize=1))
            print("checkpoint", *tasks, "all", sep="\t")
            for path in paths:
                row = [next(won) for _ in tasks]
                print(path.stem, *row, f"{sum(row) / len(tasks) / args.evaluate:.2f}", sep="\t")
            return
        shown = pool.starmap(demonstrate, [(task, args.episodes) for task in tasks], chunksize=1)
    states = np.concatenate([states for states, _ in shown])
    print(f"{len(states)} transitions, {time.monotonic() - start:.0f} s", flush=True)
    random = np.random.default_rng(0)
    network = untrained(states, tasks, random)
    featured = [
        (network.features(met, INSTRUCTIONS[task]), labels) for task, (met, labels) in zip(tasks, shown, strict=True)
    ]
    args.out.mkdir(parents=True, exist_ok=True)
    train(network, featured, random, args.out, steps)
    print(f"{len(steps)} checkpoints in {args.out}, {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
