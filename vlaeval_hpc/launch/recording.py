"""`recording=...` on the host: what is asked for, checked, and the encoder that the shards are given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vlaeval_hpc.config.schema import RecordingConfig
from vlaeval_hpc.errors import ConfigurationError, unknown
from vlaeval_hpc.run.plan import Plan

WHICH = ("all", "failures")


def recording_section(recording: RecordingConfig, observation_spec: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What the plan tells shards, empty where nothing is recorded. Raises ConfigurationError."""
    which = recording.which
    if which not in WHICH and (type(which) is not int or which < 1):
        raise ConfigurationError(f"recording.which={which}: valid: all, failures, or a number of episodes a task")
    if not recording.fps > 0:
        raise ConfigurationError(f"recording.fps={recording.fps}: valid: above 0")
    # What a benchmark does not declare it may give all the same (vla-eval's classes): the shard knows.
    cameras = [name for name, spec in observation_spec.items() if "rgb" in str(spec["format"])]
    for camera in recording.cameras or []:
        if camera not in cameras:
            raise unknown("recording.cameras", camera, cameras)
    if not recording.video and not recording.steps:
        return {}
    if recording.video:
        _ffmpeg()  # told before anything starts
    return {k: v for k, v in asdict(recording).items() if k != "name"}


def encoder(plan: Plan) -> tuple[dict[str, str], list[str]]:
    """The variables that name our ffmpeg to a shard, and the folders that its container must see for it.

    The host's own: images have none. It needs the C library and nothing else.
    """
    if not plan.recording.get("video"):
        return {}, []
    found = _ffmpeg()
    return {"VLAEVAL_HPC_FFMPEG": str(found)}, [str(found.parent)]


def _ffmpeg() -> Path:
    from imageio_ffmpeg import get_ffmpeg_exe  # type: ignore[import-untyped]

    try:
        return Path(get_ffmpeg_exe()).resolve()
    except RuntimeError as error:  # the package has no binary for this machine
        raise ConfigurationError(f"recording=video: {error}: valid: IMAGEIO_FFMPEG_EXE=PATH") from error
