"""`reproduce`: the command of a run, what is not as it was, and the same outcomes again."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from tests.conftest import Command
from tests.toys import TOY, merged, outcomes
from vlaeval_hpc.results.pages.origin import by_name


def test_the_same_again(vlaeval: Command, tmp_path: Path) -> None:
    (tmp_path / "weights").write_text("1")
    done = vlaeval(*TOY, "run=a", "model.checkpoint=weights", "benchmark.params.tasks=1")
    assert done.returncode == 0, done.stdout + done.stderr
    told = vlaeval("reproduce", "results/a", "--json")
    assert told.returncode == 0, told.stdout + told.stderr
    found = json.loads(told.stdout)
    assert found["differences"] == [] and found["folder"] == str(tmp_path)
    # The command is one that a person can type.
    words = shlex.split(found["command"])
    assert words[:3] == ["python", "-m", "vlaeval_hpc"] and words[-1] == "run=a_again"
    done = vlaeval(*words[3:])
    assert done.returncode == 0, done.stdout + done.stderr
    assert outcomes(merged(tmp_path, "a_again")) == outcomes(merged(tmp_path, "a"))
    again = vlaeval("reproduce", "results/a", "--run")
    assert again.returncode == 0 and "3 of 3 episodes have the same outcome" in again.stdout, again.stdout

    # What changed is named: the checkpoint's content, a version; and an outcome that is another one.
    (tmp_path / "weights").write_text("2")
    run = tmp_path / "results" / "a"
    provenance = json.loads((run / "provenance.json").read_text())
    (run / "provenance.json").write_text(json.dumps({**provenance, "packages": {"numpy": "0.1"}}))
    told = vlaeval("reproduce", "results/a")
    assert told.returncode == 1
    rows = {line.split()[0] + " " + line.split()[1]: line for line in told.stdout.splitlines() if len(line.split()) > 2}
    assert "checkpoint weights" in rows and rows["packages numpy"].split()[2] == "0.1"
    assert "what is" in rows


def test_a_checkpoint_that_moved_is_the_same() -> None:
    assert by_name({"/old/ck/a.bin": "1", "/old/ck/sub/b.bin": "2"}) == {"a.bin": "1", "sub/b.bin": "2"}
    assert by_name({"/old/step-7.npz": "1"}) == by_name({"/new/step-7.npz": "1"}) and by_name({}) == {}


def test_what_cannot_be_prepared_any_more_is_told(vlaeval: Command, tmp_path: Path) -> None:
    (tmp_path / "weights").write_text("1")
    done = vlaeval(*TOY, "run=a", "model.checkpoint=weights", "submit=false")
    assert done.returncode == 0, done.stdout + done.stderr
    (tmp_path / "weights").unlink()
    told = vlaeval("reproduce", "results/a")
    assert told.returncode == 1 and "no such file" in told.stdout, told.stdout + told.stderr
    refused = vlaeval("reproduce", "results/a", "--run")
    assert refused.returncode == 2 and "no such file" in refused.stderr
    refused = vlaeval("reproduce", "results")
    assert refused.returncode == 2 and "not a run directory" in refused.stderr
