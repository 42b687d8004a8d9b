"""Debian packages: installing what is missing without starting services, and the machine's own Debian mirror."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from .shell import Failure, run, say

# mariadb-server-core has the server alone: no service, no data of its own.
SLURM = ("munge", "slurm-wlm", "slurmdbd", "mariadb-server-core", "mariadb-client-core")
APPTAINER = ("ca-certificates", "squashfs-tools", "squashfuse", "fuse2fs", "fuse-overlayfs", "uidmap", "libseccomp2",
             "libsqlite3-0", "patchelf")  # fmt: skip
FOR_USERS = ("python3", "python3-venv", "git")
BASE_IMAGE = ("debootstrap",)
REGISTRY = ("docker-registry", "skopeo")

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
POLICY = Path("/usr/sbin/policy-rc.d")
_APT_GET = ("apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300")


def install(*names: str) -> bool:
    """Install those that are missing, starting no service now or at boot. Returns whether anything was installed."""
    missing = [name for name in names if not _installed(name)]
    if not missing:
        return False
    if not shutil.which("apt-get"):
        raise Failure("no apt-get here: this script is for Debian 12, use such a machine or container")
    say(f"installing {' '.join(missing)}")
    with _no_services():
        try:
            _apt_install(missing)
        except Failure:
            run([*_APT_GET, "update"])  # the lists are absent or old
            _apt_install(missing)
    for name in missing:
        _disable_services(name)
    return True


def debian_mirror() -> str:
    """The address of the Debian archive that this machine's own apt sources use."""
    fields = "$(ORIGIN)|$(LABEL)|$(REPO_URI)"
    query = ["apt-get", "indextargets", "--format", fields, "Created-By: Packages"]
    for attempt in range(2):
        for line in run(query).splitlines():
            if line.startswith("Debian|Debian|"):
                return line.split("|")[2].rstrip("/")
        if attempt == 0:
            run([*_APT_GET, "update"])
    raise Failure("apt's sources name no Debian archive: use a Debian 12 machine or container")


def download_from_unstable(names: tuple[str, ...], into: Path) -> list[Path]:
    """Debian unstable's packages of these names, in `into`; the machine's own apt lists and state stay as they are."""
    apt = into / "apt"
    (apt / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    (apt / "cache").mkdir(exist_ok=True)
    sources = apt / "sources.list"
    sources.write_text(f"deb [signed-by={KEYRING}] {debian_mirror()} unstable main\n")
    options = [
        *("-o", f"Dir::Etc::SourceList={sources}", "-o", "Dir::Etc::SourceParts=-", "-o", "APT::Sandbox::User=root"),
        *("-o", f"Dir::State::Lists={apt / 'lists'}", "-o", f"Dir::Cache={apt / 'cache'}"),
    ]
    run([*_APT_GET, *options, "update"])
    run([*_APT_GET, *options, "download", *names], cwd=into)
    shutil.rmtree(apt)
    return [newest(into, name) for name in names]


def newest(where: Path, name: str) -> Path:
    """The package file of this name that was downloaded last."""
    files = sorted(where.glob(f"{name}_*.deb"), key=lambda path: path.stat().st_mtime)
    if not files:
        raise Failure(f"no {name}_*.deb in {where}: delete that folder and run `devcluster up` again")
    return files[-1]


def _installed(name: str) -> bool:
    try:
        return run(["dpkg-query", "-W", "-f", "${db:Status-Status}", name]) == "installed"
    except Failure:
        return False


def _apt_install(names: list[str]) -> None:
    environment = {"DEBIAN_FRONTEND": "noninteractive"}
    run([*_APT_GET, "install", "--no-install-recommends", *names], env=environment)


@contextlib.contextmanager
def _no_services() -> Iterator[None]:
    """Packages start nothing while this holds: Debian's policy-rc.d, unless the machine has one."""
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()


def _disable_services(name: str) -> None:
    """The services of a package that we installed do not start at the next boot either."""
    if not shutil.which("systemctl"):
        return
    units = [Path(line).name for line in run(["dpkg-query", "-L", name]).splitlines() if line.endswith(".service")]
    if units:
        run(["systemctl", "disable", "--quiet", *units])
