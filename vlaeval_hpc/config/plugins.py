"""Packages of other people that bring adapters and their configs, found by the entry points "vlaeval_hpc".

    [project.entry-points."vlaeval_hpc"]
    mylab = "mylab"

The value is a package; its folder `conf` is searched as ours is: conf/model, conf/benchmark, conf/pairing.
"""

from __future__ import annotations

import functools
import importlib.util
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from vlaeval_hpc.errors import ConfigurationError

GROUP = "vlaeval_hpc"


class Plugin(NamedTuple):
    """A top-level package that is installed beside ours, where it lies, and which distribution it is of."""

    package: str
    folder: Path
    distribution: str
    version: str

    @property
    def conf(self) -> Path:
        """Its configs; the folder need not be there."""
        return self.folder / "conf"


@functools.cache
def plugins() -> tuple[Plugin, ...]:
    """Every plugin, by name; none is imported. Raises ConfigurationError for an entry point that names no package."""
    found = {}
    for point in metadata.entry_points(group=GROUP):
        spec = importlib.util.find_spec(point.module) if point.module.isidentifier() else None
        places = list(spec.submodule_search_locations or []) if spec else []
        if not places or point.attr:
            where = f"{point.dist.name} {point.dist.version}" if point.dist else "a package"
            raise ConfigurationError(f"{where}: entry point {GROUP}: {point.name} = {point.value}: valid: a package")
        name, version = (point.dist.name, point.dist.version) if point.dist else ("", "")
        found[point.module] = Plugin(point.module, Path(places[0]).resolve(), name, version)
    return tuple(found[name] for name in sorted(found))


@functools.cache
def register() -> None:
    """Let Hydra search the plugins' configs, after ours."""
    from hydra.core.config_search_path import ConfigSearchPath
    from hydra.core.plugins import Plugins
    from hydra.plugins.search_path_plugin import SearchPathPlugin

    class Installed(SearchPathPlugin):
        def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
            for plugin in plugins():
                if plugin.conf.is_dir():
                    search_path.append(plugin.distribution or plugin.package, f"file://{plugin.conf}")

    Plugins.instance().register(Installed)
