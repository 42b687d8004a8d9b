"""An image's source, a SIF, a definition or docker://..., made a SIF file on our disk: by content, once.

What was pulled or built lies in <cache>/images as <what>-<digest>.sif, complete or not at all, with its log and a JSON
file that tells where it came from; `refs` beside them says which manifest a tag was when it was last asked for.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from vlaeval_hpc.errors import ConfigurationError, InfrastructureError
from vlaeval_hpc.launch import apptainer
from vlaeval_hpc.launch.cache import cache_folder, digest
from vlaeval_hpc.launch.once import making
from vlaeval_hpc.run.files import write_atomic, write_json

DOCKER = "docker://"
VALID = "valid: a .sif, a .def, docker://..."
WAIT_TIMEOUT = 6 * 3600.0


class Image(NamedTuple):
    """`path` is a SIF. `digest` is the SHA-256 of what it was made from: a registry's manifest, a definition with all
    that goes into it, or, of a SIF that the user gave, of the file."""

    path: Path
    source: str
    digest: str


def containers_folder() -> Path:
    """The definitions that come with the package: inside it when installed, beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "containers"
    return inside if inside.is_dir() else package.parent / "containers"


def ready_image(source: str, build_args: Mapping[str, str], name: str, say: Callable[[str], None]) -> Image:
    """The image, pulled or built first where it is missing; `say` hears of what takes long.

    `source` is a .sif; a .def, by its path or a name in containers_folder(), for which `build_args` count; or
    docker://... A tag is looked up anew; where its registry does not answer, what it was the last time is taken, and
    said. `name` says in errors whose environment it is.

    Raises ConfigurationError.
    """
    try:
        if source.startswith(DOCKER):
            return _ready_pulled(source, name, say)
        image = _expected(source, build_args)
        if not image.path.exists():
            definition = _definition(source)

            def make(target: Path, log: Path) -> None:
                apptainer.build(definition, target, build_args, log)

            _make_alone(image, make, f"building {source} for {name} (once)", say)
    except ConfigurationError as error:
        raise ConfigurationError(f"{name}.environment.image: {error}") from error
    return image


def known_image(source: str, build_args: Mapping[str, str], name: str) -> Image | None:
    """The image, without network and without making anything; None where ready_image() would have to make it.

    Raises ConfigurationError where `source` is none, or a file that is missing.
    """
    try:
        image = _known_pulled(source) if source.startswith(DOCKER) else _expected(source, build_args)
    except ConfigurationError as error:
        raise ConfigurationError(f"{name}.environment.image: {error}") from error
    return image if image and image.path.exists() else None


def _expected(source: str, build_args: Mapping[str, str]) -> Image:
    """The image of a file: a SIF as it is, a definition's where it will lie."""
    if source.endswith(".sif"):
        path = Path(source).expanduser().absolute()
        apptainer.check_sif(path)
        return Image(path, source, _file_digest(path))
    definition = _definition(source)
    wanted = _definition_digest(definition, build_args)
    return Image(_place(definition.stem, wanted), source, wanted)


def _ready_pulled(source: str, name: str, say: Callable[[str], None]) -> Image:
    reference = apptainer.parse_reference(source)
    known = _known_pulled(source)
    if reference.digest and known and known.path.exists():
        return known  # a digest never changes: nobody is asked
    try:
        wanted = reference.digest or apptainer.registry_digest(source)
    except InfrastructureError as error:
        if known is None or not known.path.exists():
            raise ConfigurationError(f"{source}: {error}: and it was not pulled before") from error
        say(f"{source}: {error}: taking it as it was, {known.digest[:19]}")
        return known
    if known and known.digest != wanted:
        say(f"{source} has moved on: it was {known.digest[:19]}, and is {wanted[:19]}")
    image = Image(_place(reference.repository.rpartition("/")[2], wanted), source, wanted)
    if not image.path.exists():

        def make(target: Path, log: Path) -> None:
            apptainer.pull(reference.pinned(wanted), target, log)

        _make_alone(image, make, f"pulling {source} for {name} (once)", say)
    if not reference.digest:
        note = _note(source)
        note.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(note, wanted + "\n")
    return image


def _known_pulled(source: str) -> Image | None:
    """What the source was when it was last asked for."""
    reference = apptainer.parse_reference(source)
    known = reference.digest
    if known is None:
        try:
            known = _note(source).read_text().strip()
        except OSError:
            return None
    return Image(_place(reference.repository.rpartition("/")[2], known), source, known)


def _note(source: str) -> Path:
    return _folder() / "refs" / quote(source.removeprefix(DOCKER), safe="")


def _folder() -> Path:
    return cache_folder() / "images"


def _place(what: str, wanted: str) -> Path:
    """By what it is made of, not for whom: benchmarks share an image."""
    return _folder() / f"{what}-{wanted.removeprefix('sha256:')[:12]}.sif"


def _make_alone(image: Image, make: Callable[[Path, Path], None], what: str, say: Callable[[str], None]) -> None:
    """Make the file, unless another process does: then wait for it."""
    path = image.path
    with making(path, WAIT_TIMEOUT, say):
        if path.exists():
            return
        say(f"{what}: {path}")
        partial = path.with_name(f".{path.name}.partial")
        try:
            make(partial, path.with_suffix(".log"))
            apptainer.check_sif(partial)
            with partial.open("rb") as stream:
                os.fsync(stream.fileno())
            made = {
                "source": image.source,
                "digest": image.digest,
                "created_at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
                "apptainer": apptainer.version(),
            }
            write_json(path.with_suffix(".json"), made)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def _definition(source: str) -> Path:
    """The definition file. Raises ConfigurationError where it is none or missing."""
    if not source.endswith(".def"):
        raise ConfigurationError(f"{source}: {VALID}")
    given, ours = Path(source).expanduser().absolute(), containers_folder() / source
    found = next((path for path in (given, ours) if path.is_file()), None)
    if found is None:
        known = ", ".join(sorted(path.name for path in containers_folder().glob("*.def")))
        raise ConfigurationError(f"{source}: no such file: valid: a path, or of ours {known or 'none'}")
    return found


def _definition_digest(definition: Path, build_args: Mapping[str, str]) -> str:
    """Of everything that goes into an image but the network's part of it, and what %files copies."""
    text = definition.read_text()
    base = _local_base(definition, text, build_args)
    parts = [text, dict(build_args), _file_digest(base) if base else None, os.uname().machine]
    return f"sha256:{hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()}"


def _local_base(definition: Path, text: str, build_args: Mapping[str, str]) -> Path | None:
    """The image file that a definition builds on, if it does."""
    section = re.search(r"^%arguments[^\n]*\n(.*?)(?=^%|\Z)", text, re.MULTILINE | re.DOTALL)
    defaults = dict(re.findall(r"^\s*(\w+)=(.*?)\s*$", section[1], re.MULTILINE)) if section else {}
    values = {**defaults, **build_args}
    header = {}
    for key in ("bootstrap", "from"):
        found = re.search(rf"^{key}:\s*(.*?)\s*$", text, re.MULTILINE | re.IGNORECASE)
        raw = found[1] if found else ""
        header[key] = re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda word: values.get(word[1], word[0]), raw)
    if header["bootstrap"].lower() != "localimage":
        return None
    base = definition.parent / header["from"]
    if not base.is_file():
        raise ConfigurationError(f"{definition}: it builds on {base}, which is not there")
    return base


def _file_digest(path: Path) -> str:
    """SHA-256 of a file; kept, as it takes seconds a gigabyte, for as long as size and time of the file stay."""
    seen = path.stat()
    identity = [str(path.resolve()), seen.st_size, seen.st_mtime_ns]
    kept = _folder() / "files" / digest(identity)
    try:
        return kept.read_text().strip()
    except OSError:
        pass
    content = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            content.update(block)
    found = f"sha256:{content.hexdigest()}"
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(kept, found + "\n")
    return found
