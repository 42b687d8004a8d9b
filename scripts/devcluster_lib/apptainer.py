"""Apptainer for ordinary users: the machine's own, or Debian unstable's beside this machine's C library.

Bookworm has no package. Unstable's needs a newer libc6 only, so that one is unpacked beside it, and Apptainer's two
programs are patched to use it. Apptainer finds its own files from where its two programs lie, provided that they are
`<prefix>/bin/apptainer` and `<prefix>/libexec/apptainer/bin/starter`: nothing has to be put into /usr or /etc.
"""

from __future__ import annotations

import shutil
import stat
import tempfile
from pathlib import Path

from . import packages
from .layout import OPT, SYSTEM_PATH, cache
from .shell import Failure, link, run, say

PREFIX = OPT / "apptainer"
COMMANDS = Path("/usr/local/bin")
FUSE = Path("/dev/fuse")
_PACKAGES = ("apptainer", "libc6")
_LIBRARIES = Path("usr/lib/x86_64-linux-gnu")


def install() -> bool:
    """`apptainer` and `singularity` are there and usable for everybody. Returns whether anything was installed."""
    new = packages.install(*packages.APPTAINER)
    _open_fuse()
    if not shutil.which("apptainer", path=SYSTEM_PATH):
        _unpack()
        link(COMMANDS / "apptainer", PREFIX / "bin" / "apptainer")
        new = True
    if not shutil.which("singularity", path=SYSTEM_PATH):
        link(COMMANDS / "singularity", Path("apptainer"))  # spython looks for this name
        new = True
    return new


def version() -> str:
    """The version of the `apptainer` that everybody has on the PATH."""
    return run(["apptainer", "version"]).strip()


def _unpack() -> None:
    """Put unstable's Apptainer into PREFIX, all of it or nothing."""
    if run(["dpkg", "--print-architecture"]).strip() != "amd64":
        raise Failure("no Apptainer here, and this script brings one for amd64 only: install one, then `up` again")
    debs = cache() / "debs"
    say("installing Apptainer from Debian unstable, beside this machine's C library")
    if all(list(debs.glob(f"{name}_*.deb")) for name in _PACKAGES):
        apptainer, libc = (packages.newest(debs, name) for name in _PACKAGES)
    else:
        apptainer, libc = packages.download_from_unstable(_PACKAGES, debs)

    OPT.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=OPT, prefix=".apptainer-"))
    temporary.chmod(0o755)
    try:
        run(["dpkg-deb", "-x", libc, temporary / "libc"])
        run(["dpkg-deb", "-x", apptainer, temporary / "package"])
        _arrange(temporary / "package", temporary / "prefix")
        shutil.move(temporary / "libc", temporary / "prefix" / "libc")
        _use_own_libc(temporary / "prefix")
        if PREFIX.exists():
            shutil.rmtree(PREFIX)
        (temporary / "prefix").rename(PREFIX)
    finally:
        shutil.rmtree(temporary)
    run([PREFIX / "bin" / "apptainer", "version"])


def _arrange(package: Path, prefix: Path) -> None:
    """From the package's tree the one that Apptainer's two programs expect around them."""
    (package / "usr").rename(prefix)
    (package / "etc").rename(prefix / "etc")
    (package / "var").rename(prefix / "var")
    (prefix / "libexec").mkdir()
    (prefix / "lib" / _LIBRARIES.name / "apptainer").rename(prefix / "libexec" / "apptainer")
    (prefix / "lib" / _LIBRARIES.name).rmdir()
    (prefix / "lib" / _LIBRARIES.name).symlink_to("../libexec")
    for name in ("session", "source"):
        (prefix / "var/lib/apptainer/mnt" / name).mkdir(parents=True, exist_ok=True)


def _use_own_libc(prefix: Path) -> None:
    """Patch the two programs; --force-rpath, for RUNPATH would not reach the libraries' own needs."""
    libraries = PREFIX / "libc" / _LIBRARIES
    for program in ("bin/apptainer", "libexec/apptainer/bin/starter"):
        run(["patchelf", "--set-interpreter", libraries / "ld-linux-x86-64.so.2", "--force-rpath",
             "--set-rpath", libraries, prefix / program])  # fmt: skip


def _open_fuse() -> None:
    """Everybody may use FUSE, which mounts images without privileges. Lost at a reboot, so asked at every `up`."""
    if not FUSE.exists():
        raise Failure("/dev/fuse is not there: load the kernel's fuse module, or pass the device to this container")
    if stat.S_IMODE(FUSE.stat().st_mode) & 0o666 != 0o666:
        FUSE.chmod(0o666)
