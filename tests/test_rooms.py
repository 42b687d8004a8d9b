"""docs/design.md's rooms: which may import which, and what runs inside any image."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "vlaeval_hpc"

ALLOWED = {
    "errors": set(),
    "bootstrap": set(),
    "run": {"errors"},
    "wire": {"errors"},
    "benchmarks": {"errors", "wire"},
    "worker": {"errors", "run", "wire", "benchmarks"},
    "policies": {"errors", "wire"},
    "serving": {"errors", "run", "wire", "policies"},
    "results": {"errors", "run"},
    "config": {"errors"},
    "launch": {"errors", "bootstrap", "run", "wire", "config"},
    "cli": {"errors", "run", "config", "launch", "results"},
    "inprocess": {"errors", "run", "wire", "policies", "serving", "config", "launch", "results"},
    "__main__": {"cli"},
    "__init__": {"inprocess"},
}
ANYWHERE = {"numpy", "msgpack", "websockets"}
INSIDE_IMAGES = ("errors", "bootstrap", "run", "wire", "worker", "benchmarks")


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path, everywhere: bool) -> set[str]:
    """Dotted names that a file imports: at import time, or `everywhere` in it."""
    tree = ast.parse(path.read_text())
    nodes = ast.walk(tree) if everywhere else iter(tree.body)
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_one_way(path: Path) -> None:
    mine = {name.split(".")[1] for name in imports(path, everywhere=True) if name.startswith("vlaeval_hpc.")}
    assert mine - {room(path)} <= ALLOWED[room(path)]


@pytest.mark.parametrize("path", [p for p in modules() if room(p) in INSIDE_IMAGES], ids=lambda p: p.name)
def test_rooms_inside_images_import_little(path: Path) -> None:
    tops = {name.split(".")[0] for name in imports(path, everywhere=False)}
    assert tops <= set(sys.stdlib_module_names) | ANYWHERE | {"vlaeval_hpc"}


def test_only_launch_and_config_know_their_tools() -> None:
    knows = {"hydra": {"config"}, "omegaconf": {"config"}, "submitit": {"launch"}, "spython": {"launch"}}
    for path in modules():
        for name in imports(path, everywhere=True):
            assert room(path) in knows.get(name.split(".")[0], {room(path)}), f"{path} imports {name}"
