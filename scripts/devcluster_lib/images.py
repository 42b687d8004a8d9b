"""The base image: Debian bookworm with Python as a SIF, for where there is no docker registry to start from."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from . import packages
from .layout import IMAGES, REGISTRY_PORT, cache
from .shell import Failure, folder, link, run, say

SUITE = "bookworm"
PACKAGES = ("ca-certificates", "python3", "python3-pip", "python3-venv")
NAME = f"{SUITE}-python3"
COMPRESSION = "-comp zstd -Xcompression-level 6"  # a sixth of the time of the default, no larger, faster to read
EXTRA_CERTIFICATES = Path("/usr/local/share/ca-certificates")  # what this machine trusts beside Debian's own
_RECIPE = 3  # raise it when the steps below change


def base_image(*, rebuild: bool = False) -> Path:
    """The base image's path: readable by everybody, made if it is not in the cache yet (one to four minutes)."""
    name = f"{NAME}-{_key()}.sif"
    cached = cache() / "images" / name
    if rebuild or not cached.exists():
        cached.parent.mkdir(parents=True, exist_ok=True)
        _build(cached)
    folder(IMAGES)
    public = IMAGES / name
    if rebuild or not public.exists():
        _publish(cached, public)
    stable = IMAGES / f"{NAME}.sif"
    link(stable, Path(name))
    return stable


def push(image: Path) -> str:
    """Put the image into the local registry; returns what Apptainer pulls it by."""
    packages.install(*packages.REGISTRY)
    place = f"docker://127.0.0.1:{REGISTRY_PORT}/{NAME}:latest"
    with tempfile.TemporaryDirectory() as temporary:
        run(["skopeo", "copy", "--quiet", "--dest-tls-verify=false", f"sif:{image}", place], env={"TMPDIR": temporary})
    return place


def _key() -> str:
    """Changes when a new image is due: with the recipe, and with the certificates that this machine trusts."""
    digest = hashlib.sha256(f"{_RECIPE} {SUITE} {PACKAGES}".encode())
    for path in _extra_certificates():
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _extra_certificates() -> list[Path]:
    return sorted(EXTRA_CERTIFICATES.glob("*.crt"))


def _build(target: Path) -> None:
    """Make the image with debootstrap; the file appears when it is complete."""
    packages.install(*packages.BASE_IMAGE)
    mirror = packages.debian_mirror()
    debs = cache() / "debootstrap"
    debs.mkdir(parents=True, exist_ok=True)
    say(f"making {target.name} (one to four minutes)")
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".build-") as temporary:
        root, sif = Path(temporary) / "root", Path(temporary) / target.name
        root.mkdir(mode=0o755)
        include = f"--include={','.join(PACKAGES)}"
        run(["debootstrap", "--variant=minbase", f"--cache-dir={debs}", include, SUITE, root, mirror])
        _trust(root)
        for leftover in ("var/cache/apt/archives", "var/lib/apt/lists", "dev"):  # Apptainer mounts its own /dev
            shutil.rmtree(root / leftover)
            (root / leftover).mkdir()
        run(["apptainer", "build", "--mksquashfs-args", COMPRESSION, sif, root])
        sif.chmod(0o644)
        sif.replace(target)


def _trust(root: Path) -> None:
    """What this machine trusts, the image does: without it pip fails in a definition's %post behind a firewall."""
    certificates = _extra_certificates()
    if certificates:
        for path in certificates:
            shutil.copyfile(path, root / EXTRA_CERTIFICATES.relative_to("/") / path.name)
        run(["chroot", root, "update-ca-certificates"])


def _publish(cached: Path, public: Path) -> None:
    """The same file where everybody may read it, without a copy if that can be had."""
    temporary = public.with_name(f".{public.name}.{os.getpid()}")
    try:
        os.link(cached, temporary)
    except OSError:
        shutil.copyfile(cached, temporary)
    temporary.chmod(0o644)
    temporary.replace(public)
    if not os.access(public, os.R_OK):
        raise Failure(f"{public} is not readable: see the permissions of {IMAGES}")
