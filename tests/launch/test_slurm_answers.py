"""What is made of Slurm's answers that a healthy cluster does not give."""

from __future__ import annotations

import subprocess

import pytest

from vlaeval_hpc.errors import ConfigurationError, InfrastructureError
from vlaeval_hpc.launch import slurm

Done = subprocess.CompletedProcess


@pytest.mark.parametrize("taken", [True, False])
def test_nodes_that_are_down_for_now_are_waited_for(monkeypatch: pytest.MonkeyPatch, taken: bool) -> None:
    """Of nodes that are down --test-only says what it says of nodes that do not exist; sbatch itself knows better."""
    refusal = "sbatch: error: allocation failure: Requested node configuration is not available"
    calls: list[list[str]] = []

    def answer(command: list[str], text: str | None = None) -> Done[str]:
        calls.append(command)
        if command[0] == "scancel" or (taken and "--begin=now+1day" in command):
            return Done(command, 0, "77;cluster\n", "")
        return Done(command, 1, "", refusal)

    monkeypatch.setattr(slurm, "_run", answer)
    script = f"#!/bin/bash\n# {taken}\n"  # answers are kept
    if taken:
        slurm.check_script(script)
        assert calls[-1] == ["scancel", "77"]
    else:
        with pytest.raises(ConfigurationError, match="Requested node configuration is not available"):
            slurm.check_script(script)


def test_how_jobs_ended_is_asked_of_whoever_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(command: list[str], text: str | None = None) -> Done[str]:
        if command[0] == "sacct":
            return Done(command, 0, "5|RUNNING\n6_0|CANCELLED by 1000\n6_1|RUNNING\n6_[2-3]|PENDING\n", "")
        return Done(command, 0, "6_1|OUT_OF_MEMORY\n6_2|PENDING\n", "")  # it knows sooner

    monkeypatch.setattr(slurm, "_run", answer)
    assert slurm.ended(["5", "6"]) == {"6_0": "CANCELLED", "6_1": "OUT_OF_MEMORY"}
    assert slurm.ended([]) == {}
    monkeypatch.setattr(slurm, "_run", lambda c, t=None: Done(c, 1, "", f"{c[0]}: error: no connection"))
    with pytest.raises(InfrastructureError, match="sacct: no connection; squeue: no connection"):
        slurm.ended(["5"])


def test_those_that_wait_for_one_job_wait_for_the_next_too(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = (
        "afterany:7(unfulfilled)",
        "afterok:3(unfulfilled),afterany:7_*(unfulfilled)",
        "afterany:77(failed)",
        "(null)",
    )
    waiting = "".join(f"{job}|{told}\n" for job, told in enumerate(waits, 8))
    updates: list[tuple[str, str]] = []
    monkeypatch.setattr(slurm, "_run", lambda c, t=None: Done(c, 0, waiting, ""))
    monkeypatch.setattr(slurm, "depend", lambda job, dependency: updates.append((job, dependency)))
    slurm.wait_for_another("7", "20")
    assert updates == [("8", "afterany:7,afterany:20"), ("9", "afterok:3,afterany:7_*,afterany:20")]
