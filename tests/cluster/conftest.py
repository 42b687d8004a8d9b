"""The one-machine cluster, brought up where it is not, and this checkout as its ordinary user has it."""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import shlex
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
DEVCLUSTER = ROOT / "scripts" / "devcluster"
SETTINGS = Path("/var/lib/vlaeval-devcluster/etc/settings.json")
SHARED = Path("/srv/vlaeval-devcluster/shared")
BASE_IMAGE = Path("/srv/vlaeval-devcluster/images/bookworm-python3.sif")
REGISTRY = "127.0.0.1:17120"
PARTS = ("vlaeval_hpc", "conf", "containers", "scripts", "tests", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")


@dataclass(frozen=True)
class Cluster:
    """Everything a test does on the cluster, it does as its ordinary user."""

    user: str
    home: Path
    checkout: Path
    python: Path

    def shell(
        self, command: str, folder: Path | None = None, timeout: float = 300, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell command as the user."""
        given = {"PYTHONPATH": str(self.checkout), "COLUMNS": "200", "TESTS": str(self.checkout / "tests"), **variables}
        words = " ".join(f"export {k}={shlex.quote(v)};" for k, v in given.items())
        script = f"{words} cd {shlex.quote(str(folder or self.home))} && {command}"
        if os.geteuid() == pwd.getpwnam(self.user).pw_uid:
            argv = ["bash", "-lc", script]
        else:
            argv = ["runuser", "-l", self.user, "-c", script]
        return subprocess.run(argv, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL)

    def output(self, command: str, folder: Path | None = None, timeout: float = 300, **variables: str) -> str:
        """What a command prints that must succeed."""
        done = self.shell(command, folder, timeout, **variables)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout.strip()

    def vlaeval(
        self, folder: Path, *arguments: str, timeout: float = 300, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run `python -m vlaeval_hpc ARGUMENTS` in `folder`."""
        words = shlex.join([str(self.python), "-m", "vlaeval_hpc", *arguments])
        return self.shell(words, folder, timeout, **variables)

    def jobs(self, run: Path) -> dict[str, list[str]]:
        """The ids of a run's jobs by kind, of its latest submission."""
        found: dict[str, list[str]] = {}
        submission = json.loads((run / "jobs.json").read_text())["submissions"][-1]
        for job in submission["jobs"]:
            found.setdefault(job["kind"], []).append(job["id"])
        return found

    def wait(self, condition: Callable[[], Any], seconds: float, what: str = "") -> Any:
        """The first true value of `condition`; fails, showing the queue, after `seconds`."""
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < deadline, f"waited in vain for {what}\n{self.output('squeue -a')}"
            time.sleep(0.3)
        return found

    def wait_for_jobs(self, run: Path, seconds: float = 240) -> None:
        """Until none of a run's jobs is queued or running, those that its merge submits among them."""

        def are_gone() -> bool:
            ids = ",".join(i for found in self.jobs(run).values() for i in found)
            return not self.output(f"squeue -h -j {ids} -o %i 2>/dev/null || true")

        self.wait(are_gone, seconds, f"the jobs of {run}")


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """The cluster with its user; not to have it fails the test."""
    return bring_up()


def bring_up() -> Cluster:
    """The one-machine cluster, started where it is not, with an environment and this checkout for its user."""
    if os.geteuid() == 0:
        subprocess.run([str(DEVCLUSTER), "up", "--registry"], check=True, timeout=600)
        if not (BASE_IMAGE.exists() and _has_base(REGISTRY)):
            subprocess.run([str(DEVCLUSTER), "base-image", "--push"], check=True, timeout=900)
    first = "`sudo scripts/devcluster up --registry --user $USER && sudo scripts/devcluster base-image --push` first"
    assert SETTINGS.exists() and BASE_IMAGE.exists(), f"no cluster: {first}"
    user = json.loads(SETTINGS.read_text())["user"]
    account = pwd.getpwnam(user)
    assert os.geteuid() in (0, account.pw_uid), f"run the tests as root or as {user}, the cluster's user"
    home = Path(account.pw_dir)
    checkout = _checkout(home, account)
    found = Cluster(user, home, checkout, home / "venv" / "bin" / "python")
    key = hashlib.sha256((ROOT / "setup.cfg").read_bytes()).hexdigest()
    if found.shell(f"grep -qx {key} venv/ready").returncode:
        certificates = "export SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt;"
        found.output(
            "rm -rf venv && /usr/bin/python3 -m venv venv && venv/bin/pip install -q 'uv>=0.5' &&"
            f" {certificates} venv/bin/uv pip install -q --python venv/bin/python {checkout}"
            # Only what it needs stays: the package itself is found by PYTHONPATH.
            " && venv/bin/uv pip uninstall -q --python venv/bin/python vlaeval-hpc"
            f" && echo {key} >venv/ready",
            timeout=600,
        )
    return found


def _has_base(registry: str) -> bool:
    try:
        urllib.request.urlopen(f"http://{registry}/v2/{BASE_IMAGE.stem}/tags/list", timeout=10).close()
    except OSError:
        return False
    return True


def _checkout(home: Path, account: pwd.struct_passwd) -> Path:
    """A copy of this checkout that the user can read, named by its content: a test run never changes another's."""
    sources = [p for part in PARTS for p in [ROOT / part, *(ROOT / part).rglob("*")] if p.is_file()]
    sources = [p for p in sources if "__pycache__" not in p.parts]
    content = hashlib.sha256()
    for path in sorted(sources):
        content.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes() + b"\0")
    folder = home / "checkouts" / content.hexdigest()[:12]
    if not folder.exists():
        temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
        for path in sources:
            target = temporary / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target)
        if os.geteuid() == 0:
            subprocess.run(["chown", "-R", f"{account.pw_uid}:{account.pw_gid}", str(home / "checkouts")], check=True)
        temporary.rename(folder)
    return folder


@pytest.fixture
def folder(cluster: Cluster, request: pytest.FixtureRequest) -> Path:
    """An empty folder of the user's on the shared file system, the test's own; its jobs are cancelled at the end."""
    name = "".join(c if c.isalnum() else "-" for c in request.node.name)[:60]
    path = SHARED / "tests" / f"{name}-{os.getpid()}"
    cluster.output(f"rm -rf {path} && mkdir -p {path}")
    return path
