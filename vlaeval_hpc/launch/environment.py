"""The interpreter that a benchmark or a policy runs in: this one, or a virtual environment made from requirements.

Images are made ready in launch.images; launch.runtime starts things in whichever it is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from vlaeval_hpc.config.schema import EnvironmentConfig
from vlaeval_hpc.errors import ConfigurationError, unknown
from vlaeval_hpc.launch.cache import cache_folder, digest
from vlaeval_hpc.launch.once import making

KINDS = ("host", "venv", "image")
WIRE = ("numpy", "msgpack>=1.0.5", "websockets>=13", "pillow")
"""What the rooms that run there import, whatever else the environment holds."""

BUILD_TIMEOUT = 3600.0
CERTIFICATES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")  # Debian's, Red Hat's
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "NUMBA_NUM_THREADS")


def interpreter(environment: EnvironmentConfig, name: str, say: Callable[[str], None]) -> Path:
    """The environment's python, made first where it is missing; `say` hears of what takes long.

    Raises ConfigurationError, naming the log, where it cannot be made.
    """
    python = _expected(environment, name)
    if python.exists():
        return python
    folder = environment_folder(environment, name)
    with making(folder, BUILD_TIMEOUT, say):
        if not _ready(folder).exists():
            say(f"preparing the environment of {name} (once): {folder}")
            _build(environment, folder, name)
    return folder / "bin" / "python"


def known_interpreter(environment: EnvironmentConfig, name: str) -> Path:
    """The environment's python, which must be there. Raises ConfigurationError where it is not."""
    python = _expected(environment, name)
    if not python.exists():
        folder = environment_folder(environment, name)
        raise ConfigurationError(f"{name}.environment: {folder} is not made yet: `vlaeval_hpc prepare` makes it")
    return python


def environment_folder(environment: EnvironmentConfig, name: str) -> Path:
    """Where the environment lies: equal requirements for an equal Python share one."""
    python = environment.python or f"{sys.version_info[0]}.{sys.version_info[1]}"
    wanted = [python, os.uname().machine, sorted(environment.requirements), WIRE]
    return cache_folder() / "environments" / f"{name}-{digest(wanted)}"


def process_environment(environment: EnvironmentConfig) -> dict[str, str]:
    """Variables for a process there: ours, less what would let another Python's packages in, and the config's."""
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
    return {**kept, **fixed_variables(), **environment.variables}


def fixed_variables() -> dict[str, str]:
    """What every process of an environment is started with: one thread a numerical library, none of the user's own
    packages, output at once."""
    return {**dict.fromkeys(THREADS, "1"), "PYTHONNOUSERSITE": "1", "PYTHONUNBUFFERED": "1"}


def _expected(environment: EnvironmentConfig, name: str) -> Path:
    """Where the python is once it is made; a path that does not exist where it is not, or not completely."""
    if environment.kind not in KINDS:
        raise unknown(f"{name}.environment.kind", environment.kind, KINDS)
    if environment.kind == "host":
        return Path(sys.executable)
    folder = environment_folder(environment, name)
    return folder / "bin" / "python" if _ready(folder).exists() else folder / "missing"


def _ready(folder: Path) -> Path:
    return folder / "vlaeval_hpc.ready"


def _build(environment: EnvironmentConfig, folder: Path, name: str) -> None:
    log = folder.with_suffix(".log")
    shutil.rmtree(folder, ignore_errors=True)  # what a builder that died left
    python = environment.python or sys.executable
    requirements = [*environment.requirements, *WIRE]
    with log.open("wb") as stream:
        for arguments in (
            ["venv", "--quiet", "--python", python, str(folder)],
            ["pip", "install", "--python", str(folder / "bin" / "python"), "--compile-bytecode", *requirements],
        ):
            done = subprocess.run(
                [_uv(), *arguments],
                env=_with_certificates(),
                stdout=stream,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )
            if done.returncode:
                stream.flush()
                told = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
                last = [line for line in told if not line.startswith("hint:")][-1:]
                raise ConfigurationError(
                    f"{name}.environment: cannot be made: {' '.join(last).strip()}: the whole story is in {log}"
                )
    _ready(folder).write_text("\n".join(requirements) + "\n")


def _with_certificates() -> dict[str, str]:
    """Our variables, and the machine's own certificates for uv: a proxy of the site may sign with its own."""
    known = [path for path in CERTIFICATES if Path(path).is_file()]
    return {**({"SSL_CERT_FILE": known[0]} if known else {}), **os.environ}


def _uv() -> str:
    from uv import find_uv_bin

    return find_uv_bin()
