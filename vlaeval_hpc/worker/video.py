"""A video from frames, encoded by ffmpeg in a process of its own while the episode runs."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, List, Optional, Sequence

import numpy as np

from vlaeval_hpc.errors import ConfigurationError

FFMPEG = "VLAEVAL_HPC_FFMPEG"
CLOSE_TIMEOUT = 120.0


def find_ffmpeg() -> str:
    """The ffmpeg that our launcher brought along, else the one on the path.

    Raises ConfigurationError where there is none that runs here.
    """
    found = os.environ.get(FFMPEG) or shutil.which("ffmpeg")
    if found is None:
        raise ConfigurationError(f"recording=video: no ffmpeg here: valid: {FFMPEG}=PATH, or one on PATH")
    try:
        subprocess.run([found, "-version"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise ConfigurationError(
            f"recording=video: {found} does not run here ({error}): valid: {FFMPEG}=PATH of one that does"
        ) from error
    return found


def side_by_side(frames: Sequence["np.ndarray[Any, Any]"]) -> "np.ndarray[Any, Any]":
    """Pictures (h, w), (h, w, 1), (h, w, 3) or (h, w, 4) uint8 of several cameras as one, (H, W, 3), black below."""
    colour = [_colour(frame) for frame in frames]
    height = max(frame.shape[0] for frame in colour)
    return np.concatenate([np.pad(f, ((0, height - f.shape[0]), (0, 0), (0, 0))) for f in colour], axis=1)


class Film:
    """One mp4 (H.264) at `path`; there is nothing before the first frame. The same frames make the same file."""

    def __init__(self, ffmpeg: str, path: Path, fps: float) -> None:
        self._ffmpeg = ffmpeg
        self._path = path
        self._fps = fps
        self._shape = (0, 0, 0)
        self._process: Optional["subprocess.Popen[bytes]"] = None

    def add(self, frame: "np.ndarray[Any, Any]") -> None:
        """Append a frame (h, w, 3) uint8. Raises OSError where ffmpeg has ended, ValueError for another size."""
        if self._process is None:
            self._shape = frame.shape
            self._process = subprocess.Popen(
                self._command(frame.shape[1], frame.shape[0]),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is the shard's affair
            )
        if frame.shape != self._shape:
            raise ValueError(f"frames of {self._shape} and {frame.shape}")
        assert self._process.stdin is not None
        self._process.stdin.write(np.ascontiguousarray(frame).data)

    def close(self) -> bool:
        """End the file, and sync it; whether there is one. Raises OSError with what ffmpeg complains of."""
        if self._process is None:
            return False
        process, self._process = self._process, None
        try:
            _, said = process.communicate(timeout=CLOSE_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise OSError(f"ffmpeg did not end in {CLOSE_TIMEOUT:.0f} s") from None
        if process.returncode:
            lines = said.decode("utf-8", "replace").strip().splitlines() or [f"exit status {process.returncode}"]
            raise OSError(f"ffmpeg: {lines[-1]}")
        with self._path.open("rb") as stream:
            os.fsync(stream.fileno())
        return True

    def drop(self) -> None:
        """Forget it all."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
        if self._path.exists():
            self._path.unlink()

    def _command(self, width: int, height: int) -> List[str]:
        reads = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{self._fps:g}", "-i", "-"]
        # H.264 as every browser plays it takes even sizes only.
        even = ["-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2", "-pix_fmt", "yuv420p"]
        # One thread: its shard has few CPUs, and the file does not depend on their number.
        writes = ["-c:v", "libx264", "-preset", "veryfast", "-crf", "20", "-threads", "1", "-movflags", "+faststart"]
        plain = ["-fflags", "+bitexact", "-flags:v", "+bitexact", "-f", "mp4", str(self._path)]
        return [self._ffmpeg, "-loglevel", "error", "-y", *reads, "-an", *even, *writes, *plain]


def _colour(frame: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    whole = frame[..., None] if frame.ndim == 2 else frame
    return np.repeat(whole, 3, axis=2) if whole.shape[2] == 1 else whole[..., :3]
