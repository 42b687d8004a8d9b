"""Every check against commands, mounts and clocks of our making, and once against this machine as it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT, Command
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.launch import doctor, filesystem, finding, folder_checks
from vlaeval_hpc.launch.doctor import examine
from vlaeval_hpc.launch.filesystem import check_shared, file_system, seen_here_only
from vlaeval_hpc.launch.finding import Finding

Commands = Callable[..., None]


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    """Puts shell scripts on PATH, and nothing else."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def put(**scripts: str) -> None:
        for name, script in scripts.items():
            (folder / name).write_text(f"#!/bin/sh\n{script}\n")
            (folder / name).chmod(0o755)

    return put


@pytest.fixture
def mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes the machine's mounts: mount point -> type."""

    def put(**points: str) -> None:
        lines = [
            f"{i} 1 0:{i} / {point} rw,relatime shared:1 - {kind} some:where rw"
            for i, (point, kind) in enumerate(points.items())
        ]
        (tmp_path / "mountinfo").write_text("\n".join(lines) + "\n")
        monkeypatch.setattr(filesystem, "MOUNTS", tmp_path / "mountinfo")

    return put


def found(findings: list[Finding]) -> dict[str, Finding]:
    assert len({f.name for f in findings}) == len(findings)
    return {f.name: f for f in findings}


def settings(**changes: str) -> str:
    told = {"ClusterName": "big", "JobRequeue": "1", "MaxArraySize": "1001", "SLURM_VERSION": "24.05.1", **changes}
    lines = "\n".join(f"{key:<23} = {value}" for key, value in told.items())
    return f"/bin/cat <<'END'\n{lines}\nEND"


def test_this_machine_as_it_is(vlaeval: Command, tmp_path: Path) -> None:
    begin = time.monotonic()
    done = vlaeval("doctor", "--json")
    assert time.monotonic() - begin < 10
    told = [Finding(**f) for f in json.loads(done.stdout)]
    assert done.returncode == (1 if any(f.state == "problem" for f in told) else 0)
    assert not [f for f in told if f.state not in ("ok", "warning", "problem") or (f.state != "ok" and not f.advice)]
    assert found(told)["results writable"].state == "ok"
    assert not list(tmp_path.iterdir()), "a doctor leaves nothing behind"


def test_a_person_reads_the_same(vlaeval: Command) -> None:
    done = vlaeval("doctor", "--results", "/proc/nowhere")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    line = next(line for line in done.stdout.splitlines() if "results writable" in line)
    assert line.startswith("problem") and "/proc" in line
    assert "  -> choose results= where you may write" in done.stdout
    assert "problems: 2" in done.stdout.splitlines()[-1]  # /proc has no room either


def test_without_slurm_and_apptainer_this_machine_still_works(commands: Commands, tmp_path: Path) -> None:
    commands()
    told = found(examine(tmp_path))
    assert told["slurm"].state == told["apptainer"].state == "warning"
    assert "cluster=local" in told["slurm"].advice and "container=none" in told["apptainer"].advice
    assert "partitions" not in told and "accounting" not in told


def test_slurm_as_it_should_be(commands: Commands, tmp_path: Path) -> None:
    lines = r"cpu*|up|1-00:00:00|4|(null)\ngpu|up|2:00:00|2|gpu:a100:4\ngpu|up|2:00:00|1|gpu:h100:8"
    commands(scontrol=settings(), sbatch="", sinfo=f"printf '{lines}'", sacct="")
    told = found(examine(tmp_path))
    assert {told[name].state for name in ("slurm", "job arrays", "requeue", "partitions", "accounting")} == {"ok"}
    assert "24.05.1" in told["slurm"].found and "1001" in told["job arrays"].found
    assert told["partitions"].found == (
        "cpu* 1-00:00:00: 4 nodes; gpu 2:00:00: 2 nodes with gpu:a100:4, 1 node with gpu:h100:8"
    )


def test_slurm_as_it_may_be(commands: Commands, tmp_path: Path) -> None:
    commands(
        scontrol=settings(MaxArraySize="0", JobRequeue="0"),
        sbatch="",
        sinfo="echo 'cpu*|up|infinite|4|(null)'; echo 'gpu|inact|infinite|4|gpu:4'",
        sacct="echo 'sacct: error: Slurm accounting storage is disabled' >&2; exit 1",
    )
    told = found(examine(tmp_path))
    assert told["job arrays"].state == "problem"
    assert told["requeue"].state == told["partitions"].state == told["accounting"].state == "warning"
    assert "no partition has GPUs" in told["partitions"].advice and "gpu (inact)" in told["partitions"].found
    assert "storage is disabled" in told["accounting"].found


def test_slurm_that_is_down_or_hangs(commands: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (finding, doctor):
        monkeypatch.setattr(module, "TIMEOUT", 0.5)
    commands(
        scontrol="echo 'slurm_load_ctl_conf error: Unable to contact' >&2; exit 1", sbatch="", sinfo="exec sleep 60"
    )
    os.symlink("/bin/sleep", tmp_path / "bin" / "sleep")
    begin = time.monotonic()
    told = found(examine(tmp_path))
    assert time.monotonic() - begin < 5
    assert told["slurm"].state == told["partitions"].state == "problem"
    assert "Unable to contact" in told["slurm"].found and "no answer" in told["partitions"].found


def test_a_check_that_hangs_for_good_or_breaks_keeps_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "DEADLINE", 2.0)
    monkeypatch.setattr(doctor, "_python", lambda: time.sleep(3))
    monkeypatch.setattr(doctor, "_rendering", lambda: 1 / 0)
    told = found(examine(tmp_path))
    assert told["python"].state == told["rendering"].state == "problem"
    assert "no answer in 2 s" in told["python"].found
    assert "ZeroDivisionError" in told["rendering"].found


APPTAINER = (
    "[ $1 = buildcfg ] && echo LIBEXECDIR={0} && echo APPTAINER_CONF_FILE={0}/conf || echo apptainer version {1}"
)
NO_NAMESPACES = "echo 'unshare: unshare failed: Operation not permitted' >&2; exit 1"


def test_apptainer_needs_one_of_two_ways(commands: Commands, tmp_path: Path) -> None:
    commands(apptainer=APPTAINER.format(tmp_path, "1.3.2"), unshare="")
    told = found(examine(tmp_path))
    assert told["apptainer"].state == told["user namespaces"].state == "ok"
    assert told["apptainer"].found == "apptainer version 1.3.2, user namespaces"
    assert told["fuse"].state == "warning" and "no squashfuse" in told["fuse"].found
    commands(unshare=NO_NAMESPACES)
    told = found(examine(tmp_path))
    assert told["user namespaces"].state == "warning" and "Operation not permitted" in told["user namespaces"].found
    assert told["apptainer"].state == "problem" and "apptainer-suid" in told["apptainer"].advice


def test_apptainer_with_setuid(commands: Commands, tmp_path: Path) -> None:
    commands(apptainer=APPTAINER.format(tmp_path, "1.3.2"), unshare=NO_NAMESPACES)
    starter = tmp_path / "apptainer" / "bin" / "starter-suid"
    starter.parent.mkdir(parents=True)
    starter.touch()
    starter.chmod(0o4755)
    if os.geteuid() != 0:  # a setuid program that is not root's gives nobody root's rights
        assert found(examine(tmp_path))["apptainer"].state == "problem"
        return
    assert found(examine(tmp_path))["apptainer"] == Finding("apptainer", "ok", "apptainer version 1.3.2, setuid")
    (tmp_path / "conf").write_text("# allow setuid = yes\nallow setuid = no\n")
    assert found(examine(tmp_path))["apptainer"].state == "problem"


@pytest.mark.parametrize("version", ["apptainer version 1.0.3", "singularity-ce version 4.1.0", ""])
def test_another_or_older_apptainer(commands: Commands, tmp_path: Path, version: str) -> None:
    commands(singularity=f"echo {version}", unshare="")
    told = found(examine(tmp_path))["apptainer"]
    assert told.state == "warning" and version in told.found and "1.1" in told.advice


def test_gpus_that_egl_does_not_see(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "DEVICES", tmp_path)
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    answers = {
        '{"devices": 3, "cuda": [0, 1]}': ("ok", "EGL renders on CUDA devices 0, 1"),
        '{"devices": 2, "cuda": [0]}': ("warning", "2 NVIDIA GPUs, of which EGL can render on 1"),
        '{"error": "libEGL.so.1: cannot open shared object file"}': ("warning", "cannot open"),
    }
    for answer, (state, words) in answers.items():
        monkeypatch.setattr(doctor, "ask", lambda *c, a=answer: subprocess.CompletedProcess(c, 0, a, ""))
        told = doctor._run("rendering", doctor._rendering)[0]
        assert told.state == state and words in told.found
    monkeypatch.setattr(doctor, "ask", lambda *c: subprocess.CompletedProcess(c, -11, "", ""))
    assert "the driver ended" in doctor._run("rendering", doctor._rendering)[0].found


def test_egl_answers_or_says_why_not() -> None:
    script = ROOT / "vlaeval_hpc" / "launch" / "egl.py"
    done = subprocess.run([sys.executable, "-I", "-S", str(script)], capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    assert set(told) in ({"devices", "cuda"}, {"error"})


def test_space_and_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for free, state in ((1e9, "problem"), (5e9, "warning"), (50e9, "ok")):
        usage = os.statvfs_result((1, 1, free, free, free, 1, 1, 1, 0, 255))
        monkeypatch.setattr(os, "statvfs", lambda path, found=usage: found)
        told = next(folder_checks.check_space("results", tmp_path))
        assert told.state == state and f"{free / 1e9:.1f} GB free" in told.found
    ours = time.time
    monkeypatch.setattr(time, "time", lambda: ours() + 90)
    told = found(list(folder_checks.check_folder("results", tmp_path, "results=")))["results clock"]
    assert told.state == "warning" and "-90.0 s" in told.found


def test_locks_that_do_not_lock_are_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = os.open
    monkeypatch.setattr(os, "open", lambda path, flags, *a, **k: opened(path, flags & ~os.O_EXCL, *a, **k))
    told = found(list(folder_checks.check_folder("results", tmp_path, "results=")))["results writable"]
    assert told.state == "problem" and "O_EXCL" in told.found and not list(tmp_path.iterdir())


def test_the_nearest_mount_holds_a_path(mounts: Callable[..., None]) -> None:
    mounts(**{"/": "ext4", "/a": "xfs", "/a/b": "tmpfs", "/a/b\\040c": "lustre", "/x": "ext4"})
    assert str(file_system(Path("/a/b/c"))) == "tmpfs at /a/b"
    assert str(file_system(Path("/a/bc"))) == "xfs at /a"
    assert str(file_system(Path("/a/b c/d"))) == "lustre at /a/b c"
    assert file_system(Path("/ax")).type == "ext4" and not file_system(Path("/ax")).networked


def test_where_compute_nodes_cannot_see(mounts: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    mounts(**{"/": "ext4", "/dev/shm": "tmpfs", "/memory": "ramfs", "/tmp/net": "nfs4", "/scratch": "lustre"})
    monkeypatch.setenv("TMPDIR", "/local/job-7")
    assert seen_here_only(Path("/dev/shm/x")) == "tmpfs at /dev/shm"
    with pytest.raises(ConfigurationError) as caught:
        check_shared(Path("/memory/x"))
    assert str(caught.value) == (
        "results: /memory/x is on this node only (ramfs at /memory): compute nodes cannot see it:"
        " choose results= on a shared file system"
    )
    for below in ("/tmp/x", "/var/tmp/x", "/local/job-7/results"):
        assert seen_here_only(Path(below)) == f"ext4 at /, below {Path(below).parent}"
    for seen in ("/scratch/me", "/home/me", "/tmp/net/results", "/local/job-8", "/temporary"):
        check_shared(Path(seen))
    monkeypatch.setenv("TMPDIR", "/scratch")
    check_shared(Path("/scratch/me"))
