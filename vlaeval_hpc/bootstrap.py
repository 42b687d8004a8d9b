"""Start a module of this package in any Python: `python .../vlaeval_hpc/bootstrap.py vlaeval_hpc.worker RUN ...`.

A benchmark's or policy's interpreter does not have this package installed, and must not get the folder that holds it on
its path: in an installed copy that is site-packages, with the host's numpy and all else. So only the package itself is
made known, by where this file lies. The same line works through a read-only bind in an image. Packages with adapters of
other people are made known in the same way, where the environment does not have them itself: VLAEVAL_HPC_PLUGINS is a
JSON map of their names and folders.
"""

import importlib.abc
import importlib.util
import json
import os
import runpy
import sys
from importlib.machinery import ModuleSpec
from typing import Any, Dict, Optional

PACKAGE = "vlaeval_hpc"
PLUGINS = "VLAEVAL_HPC_PLUGINS"


class PluginFinder(importlib.abc.MetaPathFinder):
    """Finds packages, and what is in them, by their own folders: nothing that lies beside them."""

    def __init__(self, folders: Dict[str, str]) -> None:
        self._folders = folders

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Optional[ModuleSpec]:
        """The spec of one of the packages; what is in it is found by its folder then."""
        return _spec(fullname, self._folders[fullname]) if fullname in self._folders else None


def _spec(name: str, folder: str) -> ModuleSpec:
    init = os.path.join(folder, "__init__.py")
    spec = importlib.util.spec_from_file_location(name, init, submodule_search_locations=[folder])
    assert spec is not None
    return spec


def main() -> None:
    """Run the module named by the first argument as `__main__`, with the rest as its arguments."""
    folder = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [p for p in sys.path if os.path.abspath(p or ".") != folder]
    sys.meta_path.append(PluginFinder(json.loads(os.environ.get(PLUGINS) or "{}")))
    spec = _spec(PACKAGE, folder)
    assert spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules[PACKAGE] = package
    spec.loader.exec_module(package)
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
