"""What an evaluation needs of this machine and its cluster, tried out: found, and what to do about it."""

from __future__ import annotations

import json
import os
import queue
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from ctypes import CDLL
from importlib import metadata
from pathlib import Path

from vlaeval_hpc.errors import VlaevalError
from vlaeval_hpc.launch.cache import cache_folder
from vlaeval_hpc.launch.finding import OK, PROBLEM, TIMEOUT, WARNING, Check, Finding, ask, reason
from vlaeval_hpc.launch.folder_checks import check_folder, check_space, nearest

DEADLINE = 10.0  # seconds for all checks, which run side by side
DEVICES = Path("/dev")
HOST_PACKAGES = (
    "filelock",
    "hydra-core",
    "huggingface-hub",
    "msgpack",
    "numpy",
    "omegaconf",
    "pillow",
    "rich",
    "spython",
    "submitit",
    "uv",
    "websockets",
)


def examine(results: Path) -> list[Finding]:
    """Every check, in a fixed order; none raises, and none is waited for longer than DEADLINE."""
    checks: dict[str, Check] = {
        "python": _python,
        "slurm": _slurm,
        "partitions": _partitions,
        "accounting": _accounting,
        "user namespaces": _user_namespaces,
        "apptainer": _apptainer,
        "rendering": _rendering,
        "results": lambda: check_folder("results", nearest(results), "results="),
        "cache": lambda: check_folder("cache", cache_folder(), "VLAEVAL_HPC_CACHE"),
        "results space": lambda: check_space("results", nearest(results)),
        "cache space": lambda: check_space("cache", cache_folder()),
        "TMPDIR space": lambda: check_space("TMPDIR", Path(tempfile.gettempdir())),
    }
    return _run_all(checks, DEADLINE)


def _run_all(checks: dict[str, Check], deadline: float) -> list[Finding]:
    """Run side by side. Daemon threads: one that hangs on a dead file system must not keep the process."""
    answers: queue.Queue[tuple[str, list[Finding]]] = queue.Queue()
    for name, check in checks.items():
        threading.Thread(target=lambda n, c: answers.put((n, _run(n, c))), args=(name, check), daemon=True).start()
    found: dict[str, list[Finding]] = {}
    until = time.monotonic() + deadline
    with suppress(queue.Empty):
        while len(found) < len(checks):
            name, findings = answers.get(timeout=max(0.0, until - time.monotonic()))
            found[name] = findings
    silent = f"no answer in {deadline:.0f} s"
    hangs = "something that it asks hangs: a file system that is away, or a daemon"
    return [f for name in checks for f in found.get(name, [Finding(name, PROBLEM, silent, hangs)])]


def _run(name: str, check: Check) -> list[Finding]:
    findings: list[Finding] = []
    try:
        findings.extend(check())
    except subprocess.TimeoutExpired as error:
        findings.append(
            Finding(name, PROBLEM, f"{error.cmd[0]}: no answer in {TIMEOUT:.0f} s", "ask its administrators")
        )
    except VlaevalError as error:
        findings.append(Finding(name, PROBLEM, str(error)))
    except Exception as error:  # a check that meets the unforeseen tells of it and leaves the others alone
        findings.append(Finding(name, PROBLEM, f"{type(error).__name__}: {error}", "this check could not be done"))
    return findings


# ---- this machine


def _python() -> Iterator[Finding]:
    version, missing = sys.version.split()[0], []
    told = []
    for name in HOST_PACKAGES:
        try:
            told.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            missing.append(name)
    yield Finding("python", OK, f"{version} at {sys.executable}")
    if missing:
        install = f"{sys.executable} -m pip install {' '.join(missing)}"
        yield Finding("packages", PROBLEM, f"not installed: {', '.join(missing)}", install)
    else:
        yield Finding("packages", OK, ", ".join(told))


def _user_namespaces() -> Iterator[Finding]:
    kernel = Path("/proc/sys")
    settings = {
        "user.max_user_namespaces": ("0", "set it to 15000 or so"),
        "kernel.unprivileged_userns_clone": ("0", "set it to 1"),
        "kernel.apparmor_restrict_unprivileged_userns": ("1", "set it to 0, or give apptainer an AppArmor profile"),
    }
    values, against = [], []
    for key, (bad, advice) in settings.items():
        with suppress(OSError):
            value = (kernel / key.replace(".", "/")).read_text().strip()
            values.append(f"{key}={value}")
            against += [f"{key}={value}: {advice}"] if value == bad else []
    tried = _try_user_namespace()
    if tried is None:
        yield Finding("user namespaces", OK, f"`unshare -Ur true` works; {', '.join(values)}")
        return
    advice = "; ".join(against) or "have the site allow user namespaces"
    found = f"`unshare -Ur true`: {tried}; {', '.join(values)}"
    yield Finding("user namespaces", WARNING, found, f"{advice}: Apptainer without setuid needs them")


def _try_user_namespace() -> str | None:
    """None where it works, else the reason."""
    try:
        done = ask("unshare", "-Ur", "true")
    except FileNotFoundError:
        return "no unshare here"
    return None if done.returncode == 0 else reason(done)


def _apptainer() -> Iterator[Finding]:
    command = shutil.which("apptainer") or shutil.which("singularity")
    if command is None:
        advice = (
            "benchmarks run in virtual environments here (container=none); for images install Apptainer 1.1 or later"
        )
        yield Finding("apptainer", WARNING, "no apptainer here", advice)
        return
    told = ask(command, "--version").stdout.strip()
    number = re.search(r"(\d+)\.(\d+)", told)
    if number is None or "apptainer" not in told or (int(number[1]), int(number[2])) < (1, 1):
        yield Finding("apptainer", WARNING, f"{told or 'no version'} at {command}", "install Apptainer 1.1 or later")
        return
    setuid = _starter_is_setuid(command)
    mode = "setuid" if setuid else "user namespaces"
    refused = None if setuid else _try_user_namespace()
    if refused is not None:
        advice = "see user namespaces, or have the site install apptainer-suid"
        yield Finding("apptainer", PROBLEM, f"{told}, neither setuid nor user namespaces: {refused}", advice)
        return
    yield Finding("apptainer", OK, f"{told}, {mode}")
    if not setuid:
        yield _fuse()


def _starter_is_setuid(command: str) -> bool:
    settings = dict(line.split("=", 1) for line in ask(command, "buildcfg").stdout.splitlines() if "=" in line)
    starter = Path(settings.get("LIBEXECDIR", "/usr/libexec")) / "apptainer" / "bin" / "starter-suid"
    allowed = True
    with suppress(OSError):
        text = Path(settings.get("APPTAINER_CONF_FILE", "/etc/apptainer/apptainer.conf")).read_text()
        allowed = re.search(r"^\s*allow setuid\s*=\s*no\b", text, re.MULTILINE) is None
    try:
        found = starter.stat()
    except OSError:
        return False
    return allowed and found.st_uid == 0 and bool(found.st_mode & stat.S_ISUID)


def _fuse() -> Finding:
    """Without setuid an image is mounted by FUSE, or unpacked anew for every process."""
    tools = [t for t in ("squashfuse_ll", "squashfuse", "fusermount3", "fusermount") if shutil.which(t)]
    missing = [] if {"squashfuse_ll", "squashfuse"} & set(tools) else ["no squashfuse"]
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        missing.append("/dev/fuse cannot be opened")
    if not missing:
        return Finding("fuse", OK, f"/dev/fuse, {', '.join(tools)}")
    advice = "without it each start unpacks the whole image into APPTAINER_TMPDIR: have the site install squashfuse"
    return Finding("fuse", WARNING, "; ".join(missing), advice)


def _rendering() -> Iterator[Finding]:
    gpus = [device for device in sorted(DEVICES.glob("nvidia[0-9]*")) if _opens(device)]
    if not gpus:
        yield _software_rendering()
        return
    done = ask(sys.executable, "-I", "-S", str(Path(__file__).with_name("egl.py")))
    seen = (
        json.loads(done.stdout) if done.returncode == 0 else {"error": f"the driver ended the process: {reason(done)}"}
    )
    many = f"{len(gpus)} NVIDIA GPUs"
    advice = "simulators render by the driver's EGL library (Debian: libegl1 and nvidia-egl-icd), or slowly on the CPU"
    if "error" in seen:
        yield Finding("rendering", WARNING, f"{many}, EGL: {seen['error']}", advice)
    elif len(seen["cuda"]) < len(gpus):
        yield Finding("rendering", WARNING, f"{many}, of which EGL can render on {len(seen['cuda'])}", advice)
    else:
        yield Finding("rendering", OK, f"{many}, EGL renders on CUDA devices {', '.join(map(str, seen['cuda']))}")


def _opens(device: Path) -> bool:
    """Whether it is ours: a job sees the files of GPUs that were given to others."""
    try:
        os.close(os.open(device, os.O_RDWR))
    except OSError:
        return False
    return True


def _software_rendering() -> Finding:
    for name in ("libOSMesa.so.8", "libOSMesa.so.6", "libOSMesa.so"):
        with suppress(OSError):
            CDLL(name)
            return Finding("rendering", OK, f"no GPU here; OSMesa renders on the CPU: {name}")
    advice = "for simulators outside of an image: `apt-get install libosmesa6`, or the site's Mesa module"
    return Finding("rendering", WARNING, "no GPU here, and no OSMesa library", advice)


# ---- Slurm


def _slurm() -> Iterator[Finding]:
    if shutil.which("scontrol") is None or shutil.which("sbatch") is None:
        advice = "cluster=local works all the same; on a cluster use a login node"
        yield Finding("slurm", WARNING, "no Slurm here", advice)
        return
    done = ask("scontrol", "show", "config")
    if done.returncode:
        yield Finding("slurm", PROBLEM, f"scontrol: {reason(done)}", "slurmctld or munge is down: cluster=local works")
        return
    settings = dict(re.findall(r"^(\w+)\s*= (.*?)\s*$", done.stdout, re.MULTILINE))
    yield Finding("slurm", OK, f"{settings.get('SLURM_VERSION', '?')}, cluster {settings.get('ClusterName', '?')}")
    largest = int(settings.get("MaxArraySize", "1001"))
    if largest > 1:
        found = f"MaxArraySize {largest}: an array has at most {largest} tasks; a larger run is split into several"
        yield Finding("job arrays", OK, found)
    else:
        yield Finding("job arrays", PROBLEM, f"MaxArraySize {largest}: no job arrays", "have the site raise it")
    preemption = settings.get("PreemptMode", "?")
    if settings.get("JobRequeue") == "1":
        yield Finding("requeue", OK, f"JobRequeue 1, PreemptMode {preemption}")
    else:
        advice = "a job that is preempted or loses its node ends: the same command again finishes the run"
        found = f"JobRequeue {settings.get('JobRequeue', '?')}, PreemptMode {preemption}"
        yield Finding("requeue", WARNING, found, advice)


def _partitions() -> Iterator[Finding]:
    if shutil.which("sinfo") is None:
        return
    done = ask("sinfo", "-h", "-o", "%P|%a|%l|%D|%G")
    if done.returncode:
        yield Finding("partitions", PROBLEM, f"sinfo: {reason(done)}", "see slurm")
        return
    described: dict[str, list[str]] = {}
    gpus = False
    for line in done.stdout.splitlines():
        name, up, limit, nodes, gres = line.strip().split("|")
        gpu = "" if "gpu" not in gres else f" with {gres}"
        gpus |= bool(gpu) and up == "up"
        state = "" if up == "up" else f" ({up})"
        described.setdefault(f"{name}{state} {limit}", []).append(f"{nodes} {'node' if nodes == '1' else 'nodes'}{gpu}")
    found = "; ".join(f"{head}: {', '.join(parts)}" for head, parts in described.items())
    if not described:
        yield Finding("partitions", PROBLEM, "none that you may see", "ask for an account")
    elif not gpus:
        yield Finding("partitions", WARNING, found, "no partition has GPUs: only policies that run on a CPU can serve")
    else:
        yield Finding("partitions", OK, found)


def _accounting() -> Iterator[Finding]:
    if shutil.which("sacct") is None:
        return
    done = ask("sacct", "-n", "-X", "-S", "now", "-o", "jobid")
    if done.returncode == 0:
        yield Finding("accounting", OK, "sacct answers")
    else:
        advice = "runs work without it: how far they are is told from files and squeue"
        yield Finding("accounting", WARNING, f"sacct: {reason(done)}", advice)
