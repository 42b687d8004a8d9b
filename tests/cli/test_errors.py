"""What a user can get wrong: one line that names the key, the value and what is valid; nothing is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Command
from tests.toys import TOY, journal
from vlaeval_hpc.cli import VERBS


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["model=pilott"], ["unknown model 'pilott'", "did you mean pilot", "random"]),
        (["benchmark=tooy"], ["unknown benchmark 'tooy'", "did you mean toy"]),
        (["cluster=slrum"], ["unknown cluster", "valid:", "local"]),
        (["model.chekpoint=3"], ["unknown key 'model.chekpoint'", "did you mean model.checkpoint"]),
        (["benchmark.params.tsaks=3"], ["unknown key 'benchmark.params.tsaks'", "did you mean benchmark.params.tasks"]),
        (["+model.foo=3"], ["unknown key 'model.foo'"]),
        (["benchmark.environment.build_args={BASE:x}"], ["with a plus", "+benchmark.environment.build_args="]),
        (["+benchmark.params.foo=3"], ["benchmark.params", "foo"]),
        (["cluster.shards=many"], ["cluster.shards", "many"]),
        (["cluster.shards=0"], ["cluster.shards=0", "1 and more"]),
        (["benchmark.episodes_per_task=0"], ["benchmark.episodes_per_task=0"]),
        (["benchmark.episodes_per_task=51"], ["benchmark.episodes_per_task=51", "50 a task"]),
        (["benchmark.tasks=[task-7]"], ["unknown task 'task-7'", "did you mean task-1"]),
        (["benchmark.observe=[frnt]"], ["unknown benchmark.observe 'frnt'", "did you mean front"]),
        (["server.codec=pmg"], ["unknown server.codec 'pmg'", "did you mean png"]),
        (["model.params.dim=3"], ["does not fit", "'push'", "3 dimensions", "2"]),
        (["model.checkpoint=/no/such"], ["model.checkpoint", "/no/such"]),
        (["model.target=no.such:Class"], ["model.target", "no.such"]),
        (["model.action_ensemble=mean", "run=b"], ["model.action_ensemble", "newest"]),
        (["benchmark.environment.kind=conda"], ["environment.kind", "venv"]),
        (["results=/proc/nowhere"], ["results", "/proc"]),
        (["cluster.cpus=9999"], ["cluster.cpus", "9999"]),
        (["cluster.cpus=a-b"], ["cluster.cpus", "0-3,8"]),
        (["server.url=http://x"], ["server.url", "ws://HOST:PORT"]),
        (["server.url=ws://127.0.0.1:1"], ["server.url", "no server answers"]),
        (["model=remote"], ["server.url"]),
        (["=3"], ["override must be"]),
        (["model.params.chunk=nan"], ["finite"]),
        (["merge", "nowhere"], ["nowhere"]),
        (["merge"], ["merge"]),
        (["status", "nowhere"], ["nowhere: no such folder"]),
        (["status", "."], ["plan.json"]),
        (["shard", "."], ["plan.json"]),
        (["shard", "--shrd-id", "0"], ["shard"]),
        (["serve", "model=remote"], ["no policy to serve"]),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, list) and x and "=" in x[0] else None,
)
def test_one_line_and_nothing_started(vlaeval: Command, tmp_path: Path, arguments: list[str], words: list[str]) -> None:
    verbs = ("merge", "status", "shard")
    line = arguments if arguments[0] in verbs else ["serve", *TOY, arguments[1]] if arguments[0] == "serve" else None
    done = vlaeval(*(line or [*TOY, *arguments]))
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    for word in words:
        assert word in done.stderr
    assert not list(tmp_path.glob("results/*/shards/*"))


def test_without_a_slurm_it_is_said(vlaeval: Command, tmp_path: Path) -> None:
    done = vlaeval(*TOY, "cluster=slurm", "container=none", PATH="/nowhere")
    assert done.returncode == 2
    assert done.stderr == "error: cluster: no scontrol here: is this a Slurm login node?\n"
    assert not (tmp_path / "results").exists()


def test_v_shows_the_traceback(vlaeval: Command) -> None:
    done = vlaeval(*TOY, "cluster.shards=0", "-v")
    assert done.returncode == 1
    assert "Traceback" in done.stderr and "cluster.shards=0" in done.stderr


def test_a_policy_that_does_not_load_says_why(vlaeval: Command) -> None:
    done = vlaeval(*TOY, "model.params.fault=load")
    assert done.returncode == 2
    assert "the policy did not load: RuntimeError: no such weights" in done.stderr
    assert "server-0.log" in done.stderr


def test_a_folder_that_holds_a_different_run_is_left_alone(vlaeval: Command, tmp_path: Path) -> None:
    assert vlaeval(*TOY, "run=a").returncode == 0
    before = journal(tmp_path, "a")
    done = vlaeval(*TOY, "run=a", "benchmark.seed=4")
    assert done.returncode == 2
    assert "different run: benchmark.seed is 3 there, 4 here" in done.stderr
    (tmp_path / "weights").write_text("1")
    assert vlaeval(*TOY, "run=b", "model.checkpoint=weights").returncode == 0
    (tmp_path / "weights").write_text("2")
    done = vlaeval(*TOY, "run=b", "model.checkpoint=weights")
    assert done.returncode == 2 and "the checkpoint's content has changed" in done.stderr
    (tmp_path / "results" / "c").mkdir()
    (tmp_path / "results" / "c" / "thesis.tex").touch()
    done = vlaeval(*TOY, "run=c")
    assert done.returncode == 2 and "thesis.tex" in done.stderr
    assert journal(tmp_path, "a") == before


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help_fits_a_screen_and_shows_an_example(vlaeval: Command, verb: str) -> None:
    done = vlaeval(*verb.split(), "--help")
    assert done.returncode == 0
    assert done.stdout.count("\n") <= 30 and max(map(len, done.stdout.splitlines())) <= 100
    assert "Example" in done.stdout


def test_hydras_own_options_work(vlaeval: Command) -> None:
    done = vlaeval(*TOY, "--cfg", "job")
    assert done.returncode == 0
    assert "target: doubles.toy:Toy" in done.stdout
