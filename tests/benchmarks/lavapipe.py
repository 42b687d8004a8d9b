"""Mesa's Vulkan driver for the CPU, new enough for SAPIEN: Debian 12's backport, unpacked into the cache beside the
machine's own Mesa, which stays as it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT
from vlaeval_hpc.launch.cache import cache_folder

VERSION = "25.0"
BACKPORTS = ("mesa-vulkan-drivers", "libdrm2", "libdrm-amdgpu1")
BESIDE = (
    *("libllvm15", "libedit2", "libbsd0", "libmd0", "libelf1", "libicu72", "libxml2", "libz3-4", "libvulkan1"),
    *("libwayland-client0", "libx11-6", "libx11-xcb1", "libxau6", "libxdmcp6", "libxcb1", "libxcb-dri3-0"),
    *("libxcb-present0", "libxcb-randr0", "libxcb-shm0", "libxcb-sync1", "libxcb-xfixes0", "libxshmfence1"),
)
"""What the driver and Vulkan's loader need of Debian 12, as a bare machine has none of it."""


def lavapipe() -> dict[str, str]:
    """Variables by which a process finds the driver, which is fetched the first time: 52 MB."""
    folder = cache_folder() / f"lavapipe-{VERSION}"
    libraries, driver = folder / "usr" / "lib" / "x86_64-linux-gnu", folder / "lvp.json"
    if not driver.exists():
        _fetch(folder)
        icd = next((folder / "usr" / "share" / "vulkan" / "icd.d").glob("lvp_icd*.json")).read_text()
        driver.write_text(icd.replace('"libvulkan_lvp.so"', f'"{libraries / "libvulkan_lvp.so"}"'))
    return {"VK_ICD_FILENAMES": str(driver), "LD_LIBRARY_PATH": str(libraries)}


def _fetch(folder: Path) -> None:
    sys.path.insert(0, str(ROOT / "scripts"))
    from devcluster_lib.packages import KEYRING, debian_mirror

    apt = folder / "apt"
    (apt / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    lines = [f"deb [signed-by={KEYRING}] {debian_mirror()} {s} main\n" for s in ("bookworm", "bookworm-backports")]
    (apt / "sources.list").write_text("".join(lines))
    words = ["apt-get", "-q", "-o", f"Dir::Etc::SourceList={apt}/sources.list", "-o", "Dir::Etc::SourceParts=-"]
    words += ["-o", f"Dir::State::Lists={apt}/lists", "-o", f"Dir::Cache={apt}", "-o", "APT::Sandbox::User=root"]
    wanted = [*(f"{name}/bookworm-backports" for name in BACKPORTS), *BESIDE]
    subprocess.run([*words, "update"], check=True, capture_output=True)
    subprocess.run([*words, "download", *wanted], check=True, capture_output=True, cwd=apt)
    for package in apt.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", str(package), str(folder)], check=True)
        package.unlink()
