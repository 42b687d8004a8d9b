"""model.checkpoint made ready: a path that holds in every folder, a repository of the Hugging Face hub on our disk.

A commit of a repository lies, as plain files, in <cache>/checkpoints/<org>--<name>/<commit>, complete or not at all;
`refs` beside it says which commit a branch or tag was when it was last asked for.
"""

from __future__ import annotations

import glob
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.launch.cache import cache_folder, digest
from vlaeval_hpc.launch.once import making
from vlaeval_hpc.run.files import write_atomic

HUB = "hf://"
VALID = "valid: hf://ORG/NAME[@REVISION][/PATH]"
REFERENCE = re.compile(
    r"hf://(?P<repository>[\w.-]+/[\w.-]+)"
    r"(?:@(?P<revision>refs/(?:pr|convert)/[^/@]+|[^/@]+))?"
    r"(?:/(?P<path>[^@]*))?"
)
COMMIT = re.compile(r"[0-9a-f]{40}")
ANSWER_TIMEOUT = 20.0
WAIT_TIMEOUT = 6 * 3600.0


class Checkpoint(NamedTuple):
    """`value` is what the policy gets. For one of the hub `source` is what the config says, `revision` the commit."""

    value: Any
    source: str | None = None
    revision: str | None = None


class _Reference(NamedTuple):
    """A checkpoint of the hub; `path` is a file or folder in the repository, empty for all of it."""

    source: str
    repository: str
    revision: str
    path: str

    @property
    def home(self) -> Path:
        return cache_folder() / "checkpoints" / self.repository.replace("/", "--")

    @property
    def ref(self) -> Path:
        return self.home / "refs" / quote(self.revision, safe="")

    def folder(self, commit: str) -> Path:
        """Where the commit, or of it what `path` names, is once it is complete."""
        return self.home / (f"{commit}-{digest(self.path)}" if self.path else commit)

    def checkpoint(self, commit: str) -> Checkpoint:
        return Checkpoint(str(self.folder(commit) / self.path), self.source, commit)

    def holds(self, file: str) -> bool:
        """Whether a file of the repository is wanted."""
        return not self.path or file == self.path or file.startswith(self.path + "/")


def ready_checkpoint(checkpoint: Any, say: Callable[[str], None]) -> Checkpoint:
    """The checkpoint where compute nodes find it, downloaded first where that is needed; `say` hears of what takes
    long. A branch is looked up anew; without network what it was the last time is taken, and said.

    Raises ConfigurationError.
    """
    reference = _parse(checkpoint)
    if reference is None:
        return _on_disk(checkpoint)
    commit = reference.revision if COMMIT.fullmatch(reference.revision) else None
    if commit and reference.folder(commit).is_dir():
        return reference.checkpoint(commit)  # a commit never changes: nobody is asked
    try:
        commit, files = _look_up(reference)
    except _Unreachable as error:
        known = _known_commit(reference)
        if known is None:
            raise ConfigurationError(
                f"model.checkpoint={reference.source}: {error}: and it was not downloaded before"
            ) from error
        say(f"model.checkpoint={reference.source}: {error}: taking {reference.revision} as it was, {known[:12]}")
        return reference.checkpoint(known)
    if not reference.folder(commit).is_dir():
        _download_alone(reference, commit, files, say)
    if reference.revision != commit:
        reference.ref.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(reference.ref, commit)
    return reference.checkpoint(commit)


def _on_disk(checkpoint: Any) -> Checkpoint:
    """A path that is there becomes absolute; a number is a training step and any other name is the policy's to read."""
    if isinstance(checkpoint, str) and checkpoint and not checkpoint.isdecimal():
        path = Path(checkpoint).expanduser()
        if path.exists():
            return Checkpoint(str(path.absolute()))
    return Checkpoint(checkpoint)


def _parse(checkpoint: Any) -> _Reference | None:
    """None for what is not of the hub. Raises ConfigurationError."""
    if not isinstance(checkpoint, str) or not checkpoint.startswith(HUB):
        return None
    found = REFERENCE.fullmatch(checkpoint)
    path = ((found and found["path"]) or "").strip("/")
    if found is None or any(part in ("", ".", "..") for part in (path.split("/") if path else [])):
        raise ConfigurationError(f"model.checkpoint={checkpoint}: {VALID}")
    return _Reference(checkpoint, found["repository"], unquote(found["revision"] or "main"), path)


def _known_commit(reference: _Reference) -> str | None:
    """The commit that was asked for last by this name, where it is complete."""
    commit: str | None = reference.revision
    if not COMMIT.fullmatch(reference.revision):
        try:
            commit = reference.ref.read_text().strip()
        except OSError:
            return None
    return commit if commit and reference.folder(commit).is_dir() else None


class _Unreachable(Exception):
    """The hub does not answer, or must not be asked."""


def _look_up(reference: _Reference) -> tuple[str, list[str]]:
    """The commit and its files that are wanted. Raises ConfigurationError, or _Unreachable."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import OfflineModeIsEnabled

    try:
        info = HfApi().model_info(reference.repository, revision=reference.revision, timeout=ANSWER_TIMEOUT)
    except OfflineModeIsEnabled:
        raise _Unreachable("HF_HUB_OFFLINE is set") from None
    except Exception as error:  # of requests, httpx or httpx2, which have no base in common
        meant = _meaning(reference, error)
        if meant is None:
            raise _Unreachable(f"the hub cannot be asked: {_one_line(error)}") from error
        raise meant from error
    assert info.sha and info.siblings is not None, "the hub tells of every revision its commit and files"
    every = [sibling.rfilename for sibling in info.siblings]
    files = [name for name in every if reference.holds(name)]
    if not files:
        tops = sorted({name.split("/")[0] for name in every})
        shown = ", ".join(tops[:12]) + (", ..." if len(tops) > 12 else "")
        raise ConfigurationError(
            f"model.checkpoint={reference.source}: no '{reference.path}' in it: valid: a file or folder of"
            f" {reference.repository}, which holds {shown or 'nothing'}"
        )
    return info.sha, files


def _download_alone(reference: _Reference, commit: str, files: list[str], say: Callable[[str], None]) -> None:
    """Download, unless another process does: then wait for it."""
    folder = reference.folder(commit)
    # Ours around huggingface_hub's own locks, which are flocks: those are absent or local to the node on many file
    # systems.
    with making(folder, WAIT_TIMEOUT, say):
        if not folder.is_dir():
            say(f"downloading {reference.source} (once), {len(files)} files: {folder}")
            _download(reference, commit, files, folder)


def _download(reference: _Reference, commit: str, files: list[str], folder: Path) -> None:
    """Into a folder beside, whose files a later try goes on with; under its name only once it is complete."""
    from huggingface_hub import snapshot_download

    partial = folder.with_name(folder.name + ".partial")
    pattern = glob.escape(reference.path)
    try:
        snapshot_download(
            reference.repository,
            revision=commit,
            local_dir=partial,  # plain files: the hub's cache links out of a snapshot, and a container gets only that
            allow_patterns=[pattern, f"{pattern}/*"] if pattern else None,
        )
    except Exception as error:
        meant = _meaning(reference, error)
        raise meant or ConfigurationError(
            f"model.checkpoint={reference.source}: the download broke off: {_one_line(error)}: the same again goes on"
        ) from error
    # Where the hub goes away in between, some versions hand back a folder as it is, and warn.
    missing = [name for name in files if not (partial / name).is_file()]
    if missing:
        raise ConfigurationError(
            f"model.checkpoint={reference.source}: the download broke off before {missing[0]}: the same again goes on"
        )
    shutil.rmtree(partial / ".cache", ignore_errors=True)
    partial.rename(folder)


def _meaning(reference: _Reference, error: Exception) -> ConfigurationError | None:
    """What an answer of the hub means to a user; None where it gave none."""
    from huggingface_hub import errors

    repository = reference.repository
    if isinstance(error, errors.GatedRepoError):
        told = f"{repository} is gated: ask for access on its page, and set HF_TOKEN"
    elif isinstance(error, errors.RepositoryNotFoundError):
        told = f"the hub has no {repository}, or HF_TOKEN does not open it: {VALID}"
    elif isinstance(error, errors.RevisionNotFoundError):
        told = f"{repository} has no revision '{reference.revision}': valid: a branch, a tag, a whole commit"
    elif isinstance(error, errors.HFValidationError):
        told = VALID
    else:
        return None
    return ConfigurationError(f"model.checkpoint={reference.source}: {told}")


def _one_line(error: Exception) -> str:
    return " ".join((str(error) or type(error).__name__).split())[:200]
