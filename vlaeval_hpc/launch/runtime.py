"""How a module of this package is started where a benchmark or a policy lives: in an interpreter or in a container."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vlaeval_hpc.bootstrap import PLUGINS
from vlaeval_hpc.config.plugins import plugins
from vlaeval_hpc.config.schema import EnvironmentConfig
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.launch.apptainer import container_variables, exec_command
from vlaeval_hpc.launch.cache import cache_folder
from vlaeval_hpc.launch.environment import fixed_variables, interpreter, known_interpreter, process_environment
from vlaeval_hpc.launch.images import Image, known_image, ready_image

PACKAGE = Path(__file__).resolve().parent.parent
INSIDE = "/opt/vlaeval_hpc"  # where the package lies in a container, bound read-only
INSIDE_PLUGINS = "/opt/vlaeval_hpc_plugins"  # and so the packages of other people, each in a folder of its name
COMPILED = "/opt/vlaeval_hpc_compiled"
COMPILED_BY = {"NUMBA_CACHE_DIR": f"{COMPILED}/numba", "JAX_COMPILATION_CACHE_DIR": f"{COMPILED}/jax"}
"""Where simulators that compile at run time keep what they made: an image is read-only, and LIBERO would compile for
13 s in every shard. Both tools look at the CPU and replace their files whole."""

HANDED_IN = (
    "SLURM_JOB_ID",
    "SLURM_ARRAY_JOB_ID",
    "SLURM_ARRAY_TASK_ID",
    "SLURM_RESTART_COUNT",
    "SLURMD_NODENAME",
    "CUDA_VISIBLE_DEVICES",
    "VLAEVAL_HPC_TOKEN",
    "OPENPI_API_KEY",
    "GR00T_API_TOKEN",
)
"""What a container gets of our variables: who it works for, what it may render on, and the secrets, ours and those of
servers that policies ask."""


@dataclass(frozen=True)
class Runtime:
    """An environment that is there. `python` is an interpreter of this machine, or a command in the image."""

    environment: EnvironmentConfig
    python: str
    image: Image | None = None

    def command(
        self, module: str, arguments: Sequence[str], *, scratch: Path, binds: Sequence[str] = (), nv: bool = False
    ) -> list[str]:
        """The line that starts a module of this package. `binds` are folders that it needs, at the same place;
        `scratch` becomes a container's /tmp; `nv` brings in the NVIDIA driver."""
        if self.image is None:
            return [self.python, str(PACKAGE / "bootstrap.py"), module, *arguments]
        inside = [self.python, f"{INSIDE}/bootstrap.py", module, *arguments]
        compiled = self._compiled()
        kept = [f"{compiled}:{COMPILED}"] if compiled else []
        others = [f"{p.folder}:{INSIDE_PLUGINS}/{p.package}:ro" for p in plugins()]
        all_binds = [f"{PACKAGE}:{INSIDE}:ro", *others, *kept, *dict.fromkeys(binds), *self.environment.binds]
        flags = self.environment.flags
        return exec_command(self.image.path, inside, binds=all_binds, scratch=scratch, nv=nv, flags=flags)

    def variables(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """The variables of the process that `command` starts; what the config sets goes before `more`."""
        given = {**self._plugins(), **(more or {})}
        if self.image is None:
            return {**process_environment(self.environment), **given, **self.environment.variables}
        kept = {k: os.environ[k] for k in HANDED_IN if k in os.environ}
        caches = COMPILED_BY if self._compiled() else {}
        return container_variables({**kept, **fixed_variables(), **caches, **given, **self.environment.variables})

    def _plugins(self) -> dict[str, str]:
        """What tells bootstrap.py of them."""
        inside = self.image is not None
        folders = {p.package: f"{INSIDE_PLUGINS}/{p.package}" if inside else str(p.folder) for p in plugins()}
        return {PLUGINS: json.dumps(folders)} if folders else {}

    def _compiled(self) -> Path | None:
        """The folder for what is compiled inside; None where it cannot be written, as homes on some compute nodes."""
        assert self.image is not None
        folder = cache_folder() / "compiled" / self.image.path.stem
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            return None
        return folder if os.access(folder, os.W_OK) else None


def ready_runtime(environment: EnvironmentConfig, name: str, say: Callable[[str], None]) -> Runtime:
    """The environment, made first where it is missing; `say` hears of what takes long. Raises ConfigurationError."""
    if environment.kind == "image":
        image = ready_image(_source(environment, name), environment.build_args, name, say)
        return Runtime(environment, environment.python or "python3", image)
    return Runtime(environment, str(interpreter(environment, name, say)))


def known_runtime(environment: EnvironmentConfig, name: str) -> Runtime:
    """The environment that was made before: for compute nodes, which build and fetch nothing.

    Raises ConfigurationError where it is missing.
    """
    if environment.kind != "image":
        return Runtime(environment, str(known_interpreter(environment, name)))
    image = known_image(_source(environment, name), environment.build_args, name)
    if image is None:
        raise ConfigurationError(
            f"{name}.environment.image={environment.image}: not made yet: `vlaeval_hpc prepare` makes it"
        )
    return Runtime(environment, environment.python or "python3", image)


def _source(environment: EnvironmentConfig, name: str) -> str:
    if not environment.image:
        raise ConfigurationError(
            f"{name}.environment.image: none is named: valid: a .sif, a .def, docker://...; container=none runs"
            " without one"
        )
    return environment.image
