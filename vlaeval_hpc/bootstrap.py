"""Start a module of this package in any Python: `python .../vlaeval_hpc/bootstrap.py vlaeval_hpc.worker RUN ...`.

A benchmark's or policy's interpreter does not have this package installed, and must not get the folder that holds it on
its path: in an installed copy that is site-packages, with the host's numpy and all else. So only the package itself is
made known, by where this file lies. The same line works through a read-only bind in an image.
"""

import importlib.util
import os
import runpy
import sys

PACKAGE = "vlaeval_hpc"


def main() -> None:
    """Run the module named by the first argument as `__main__`, with the rest as its arguments."""
    folder = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [p for p in sys.path if os.path.abspath(p or ".") != folder]
    spec = importlib.util.spec_from_file_location(
        PACKAGE, os.path.join(folder, "__init__.py"), submodule_search_locations=[folder]
    )
    assert spec is not None and spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules[PACKAGE] = package
    spec.loader.exec_module(package)
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
