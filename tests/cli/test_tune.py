"""`tune` on the doubles."""

from __future__ import annotations

import json
from pathlib import Path

from tests.conftest import TESTS, Command
from tests.toys import TOY, merged


def test_settings_are_measured_written_and_can_be_used(vlaeval: Command, tmp_path: Path) -> None:
    slow = ("model.params.latency=0.02", "model.params.chunk=4", "benchmark.params.pace=0.005")
    done = vlaeval("tune", *TOY, *slow, "--seconds", "0.5", "-o", "out", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["chunk"] == 4 and found["memory"] > 1e6
    shards = [d["shards"] for d in found["demand"]]
    assert shards[0] == 1 and 0 < found["demand"][0]["steps"] <= 200
    batches, answers = ([s[k] for s in found["supply"]] for k in ("batch", "answers"))
    # A batch takes 20 ms and little more, whatever its size.
    assert batches[:2] == [1, 2] and answers[0] <= 50
    advice = found["advice"]
    page = (tmp_path / "out" / "pilot_toy.html").read_text()
    assert page.count("<circle") == len(shards) + len(batches) and "http" not in page.replace("http-equiv", "")
    (tmp_path / "out" / "model").symlink_to(TESTS / "conf" / "model")
    (tmp_path / "out" / "benchmark").symlink_to(TESTS / "conf" / "benchmark")
    words = ("--config-dir", "out", *TOY[2:], "+tuned=pilot_toy", "run=a", "benchmark.episodes_per_task=1")
    run = vlaeval(*words)
    assert run.returncode == 0, run.stdout + run.stderr
    assert len(merged(tmp_path, "a")["tasks"]) == 2
    plan = json.loads((tmp_path / "results" / "a" / "plan.json").read_text())
    assert [plan["simulators"], plan["model"]["max_batch_size"]] == [advice["simulators"], advice["batch"]]


def test_what_cannot_be_tuned_is_refused(vlaeval: Command) -> None:
    for words, told in (
        (("server.url=ws://127.0.0.1:1",), "tune runs the policy itself"),
        (("--seconds", "soon"), "--seconds 'soon'"),
        (("-o",), "-o: a value is missing"),
        (("model.params.dim=3",), "does not fit"),
    ):
        done = vlaeval("tune", *TOY, *words)
        assert done.returncode == 2 and told in done.stderr and done.stderr.count("\n") == 1, done.stderr
