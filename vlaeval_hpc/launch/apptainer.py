"""Apptainer, or the Singularity that a site has: the only place that knows its command line, and spython."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from vlaeval_hpc.errors import ConfigurationError, InfrastructureError

INSIDE = {"HOME": "/tmp", "PYTHONNOUSERSITE": "1"}
"""Set in every container: the home folder is not there, and the user's own packages are another Python's."""

OWN = re.compile(r"PATH|HOME|USER|LOGNAME|LANG|LD_LIBRARY_PATH|TMPDIR|XDG_RUNTIME_DIR|(APPTAINER|SINGULARITY)_\w+")
"""What Apptainer itself reads. No proxies: it hands those in whatever --cleanenv says, and shards would ask them."""

MANIFESTS = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
ANSWER_TIMEOUT = 20.0
FAST = "-comp zstd -Xcompression-level 6"  # a sixth of the time of gzip, no larger, faster to read
LOCAL = re.compile(r"(docker://)?(localhost|127\.0\.0\.1)(:\d+)?/")  # a registry that speaks plain HTTP


def exec_command(
    image: Path,
    arguments: list[str],
    *,
    binds: Sequence[str] = (),
    scratch: Path,
    nv: bool = False,
    flags: Sequence[str] = (),
) -> list[str]:
    """The line that runs `arguments` in an image; start it with container_variables().

    Of this machine it sees `binds` only: PATH, PATH:INSIDE or PATH:INSIDE:ro. `scratch`, a folder that is there, holds
    its /tmp, which is also its home and working folder. `nv` brings in the NVIDIA driver; `flags` are further ones.
    Signals that Apptainer gets reach the process, and its exit status is Apptainer's.

    Raises ConfigurationError where there is no Apptainer, or a bind is of nothing.
    """
    return [
        *_command("exec"),
        *("--containall", "--cleanenv", "--no-home"),
        "--no-eval",  # else a shell expands `$` and backticks in variables, as a token may hold
        *("--workdir", str(scratch)),  # else /tmp is 64 MB of memory
        *("--pwd", "/tmp"),
        *(["--nv"] if nv else []),
        *(word for bind in binds for word in ("--bind", _bind(bind))),
        *flags,
        str(image),
        # Not by APPTAINERENV_HOME nor --env, which Apptainer refuses for HOME.
        *("env", *(f"{name}={value}" for name, value in INSIDE.items())),
        *arguments,
    ]


def container_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """The environment to start exec_command's line with: inside are `variables`, whatever they hold, and no others.

    HOME and PYTHONNOUSERSITE are exec_command's own.
    """
    kept = {name: value for name, value in os.environ.items() if OWN.fullmatch(name)}
    prefix = "APPTAINERENV_" if _is_apptainer() else "SINGULARITYENV_"
    return {**kept, **{prefix + name: value for name, value in variables.items() if name not in INSIDE}}


def build(definition: Path, target: Path, build_args: Mapping[str, str], log: Path) -> None:
    """Build an image from a definition file; paths in it are relative to it.

    Raises ConfigurationError, naming the log, where that fails.
    """
    words = [word for name, value in build_args.items() for word in ("--build-arg", f"{name}={value}")]
    plain = ["--no-https"] if any(LOCAL.match(value) for value in build_args.values()) else []
    fast = ["--mksquashfs-args", FAST] if _is_apptainer() else []
    line = [*_command("build"), "--force", *fast, *plain, *words, str(target), str(definition)]
    _logged(line, log, f"{definition}: cannot be built", folder=definition.parent)


def pull(source: str, target: Path, log: Path) -> None:
    """Pull docker://... into a SIF. Raises ConfigurationError, naming the log, where that fails."""
    plain = ["--no-https"] if LOCAL.match(source) else []
    _logged([*_command("pull"), "--force", *plain, str(target), source], log, f"{source}: cannot be pulled")


def version() -> str:
    """What Apptainer calls itself: `apptainer version 1.4.5`. Raises ConfigurationError where there is none."""
    from spython.utils import run_command

    done = run_command([_program(), "--version"], quiet=True)
    return "".join(done["message"]).strip()


def check_sif(path: Path) -> None:
    """Raises ConfigurationError where a file is missing or no SIF."""
    try:
        with path.open("rb") as stream:
            head = stream.read(42)
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}: an Apptainer image (SIF) is needed") from None
    if head[32:41] != b"SIF_MAGIC":
        raise ConfigurationError(f"{path}: no Apptainer image: valid: a SIF, as `apptainer build` and `pull` make it")


class Reference(NamedTuple):
    """docker://[REGISTRY/]REPOSITORY[:TAG][@DIGEST], with what Docker adds to a short one; `digest` is sha256:..."""

    registry: str
    repository: str
    tag: str
    digest: str | None

    def pinned(self, digest: str) -> str:
        """What pulls exactly this manifest. Without the tag: not both are allowed."""
        return f"docker://{self.registry}/{self.repository}@{digest}"


def parse_reference(source: str) -> Reference:
    """Take docker://... apart. Raises ConfigurationError where it is none."""
    found = re.fullmatch(
        r"docker://(?:(?P<registry>localhost(?::\d+)?|[\w-]+(?:\.[\w-]+)+(?::\d+)?|[\w-]+:\d+)/)?"
        r"(?P<repository>[a-z0-9._-]+(?:/[a-z0-9._-]+)*)(?::(?P<tag>[\w.-]+))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?",
        source,
    )
    if found is None:
        raise ConfigurationError(f"{source}: valid: docker://[REGISTRY/]REPOSITORY[:TAG][@sha256:DIGEST]")
    registry, repository = found["registry"] or "docker.io", found["repository"]
    if registry == "docker.io" and "/" not in repository:
        repository = f"library/{repository}"
    return Reference(registry, repository, found["tag"] or "latest", found["digest"])


def registry_digest(source: str) -> str:
    """The digest, sha256:..., of the manifest that a docker://... names at this time.

    APPTAINER_DOCKER_USERNAME and APPTAINER_DOCKER_PASSWORD open what is not public. Raises ConfigurationError where the
    registry has no such image or does not let us see it, InfrastructureError where it does not answer.
    """
    reference = parse_reference(source)
    scheme = "http" if LOCAL.match(source) else "https"
    host = "registry-1.docker.io" if reference.registry == "docker.io" else reference.registry
    url = f"{scheme}://{host}/v2/{reference.repository}/manifests/{reference.digest or reference.tag}"
    try:
        try:
            return _manifest_digest(url, None)
        except HTTPError as error:
            if error.code != 401:
                raise
            return _manifest_digest(url, _authorization(error.headers.get("WWW-Authenticate", ""), source))
    except HTTPError as error:
        if error.code == 404:
            raise ConfigurationError(f"{source}: {host} has no such image") from None
        if error.code in (401, 403):
            raise ConfigurationError(
                f"{source}: {host} does not show it to us, or has no such image:"
                " APPTAINER_DOCKER_USERNAME and APPTAINER_DOCKER_PASSWORD open a private one"
            ) from None
        raise InfrastructureError(f"{host} answers {error.code} {error.reason}") from None
    except (URLError, HTTPException, OSError) as error:
        raise InfrastructureError(f"{host} cannot be asked: {getattr(error, 'reason', None) or error}") from error


def _manifest_digest(url: str, authorization: str | None) -> str:
    for method in ("HEAD", "GET"):  # HEAD costs nothing of what a registry allows a day; some do not tell by it
        request = Request(url, headers={"Accept": ", ".join(MANIFESTS)}, method=method)
        if authorization:
            request.add_unredirected_header("Authorization", authorization)
        with urlopen(request, timeout=ANSWER_TIMEOUT) as answer:
            told, body = answer.headers.get("Docker-Content-Digest"), answer.read()
        if told and re.fullmatch(r"sha256:[0-9a-f]{64}", told):
            return str(told)
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def _authorization(challenge: str, source: str) -> str | None:
    """What to answer a registry's challenge: our credentials, or a token that its realm gives for them or for none."""
    user, password = (os.environ.get(f"APPTAINER_DOCKER_{word}") for word in ("USERNAME", "PASSWORD"))
    basic = f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}" if user and password else None
    asked = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    if not challenge.lower().startswith("bearer") or "realm" not in asked:
        return basic
    if not (asked["realm"].startswith("https://") or LOCAL.match(source)):
        raise ConfigurationError(f"{source}: its registry wants credentials sent to {asked['realm']}, in the clear")
    query = urlencode({name: asked[name] for name in ("service", "scope") if name in asked})
    request = Request(f"{asked['realm']}?{query}")
    if basic:
        request.add_unredirected_header("Authorization", basic)
    with urlopen(request, timeout=ANSWER_TIMEOUT) as answer:
        try:
            found = json.loads(answer.read())
            return f"Bearer {found.get('token') or found['access_token']}"
        except (ValueError, KeyError, AttributeError):
            raise InfrastructureError(f"{asked['realm']} gives no token") from None


def _program() -> str:
    """The command's path."""
    found = shutil.which("apptainer") or shutil.which("singularity")
    if found is None:
        raise ConfigurationError("container: neither apptainer nor singularity is on PATH: `module load` it first?")
    return found


def _is_apptainer() -> bool:
    return Path(_program()).resolve().name == "apptainer" or Path(_program()).name == "apptainer"


def _command(action: str) -> list[str]:
    """The beginning of a command line, as spython has it, which knows the command by its old name only."""
    from spython.main import Client

    words: list[str] = Client._init_command(action, ["--quiet"])
    return [_program(), *words[1:]]


def _bind(text: str) -> str:
    """A bind as Apptainer reads it, in which a path may hold its separators."""
    if os.path.exists(text):
        return re.sub(r"([,:])", r"\\\1", text)
    if not os.path.exists(text.partition(":")[0]):
        raise ConfigurationError(f"bind {text}: no such path here: valid: PATH, PATH:INSIDE, PATH:INSIDE:ro")
    return text


def _logged(line: list[str], log: Path, what: str, folder: Path | None = None) -> None:
    """Run a command of minutes; what it prints goes into the log."""
    # The image is what we keep: layers in the home folder would fill its quota, and break where two nodes write them.
    uncached = {} if "APPTAINER_CACHEDIR" in os.environ else {"APPTAINER_DISABLE_CACHE": "true"}
    with log.open("wb") as stream:
        done = subprocess.run(
            line,
            env={**os.environ, **uncached},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
    if done.returncode:
        lines = [x.strip() for x in log.read_text(errors="replace").splitlines() if x.strip()]
        # Apptainer's FATAL says that a step failed; what failed in it, the step said before.
        reasons = [x for x in lines if re.match(r"(ERROR|E):", x)] or lines
        last = re.sub(r"^\w+:\s+", "", reasons[-1]) if reasons else f"exit status {done.returncode}"
        raise ConfigurationError(f"{what}: {last}: the whole story is in {log}")
