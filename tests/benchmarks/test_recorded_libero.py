"""LIBERO, whose cameras are drawn inside its steps: what is filmed beside them changes no bit of what a policy sees."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import duckdb
import imageio_ffmpeg

CHECKS = Path(__file__).with_name("recording_checks.py")


def test_policies_see_the_same(libero_python: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [str(libero_python), str(CHECKS), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=600,
        env={
            **os.environ,
            "MUJOCO_GL": "osmesa",
            "PYOPENGL_PLATFORM": "osmesa",
            "VLAEVAL_HPC_FFMPEG": imageio_ffmpeg.get_ffmpeg_exe(),
        },
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found["plain"]) == 2 and sorted(found["plain"][0]) == ["agentview", "state"]
    assert found["filmed"] == found["plain"]
    frames = imageio_ffmpeg.read_frames(str(tmp_path / found["record"]["video"]))
    width, height = next(frames)["size"]
    assert width == 2 * height and len(list(frames)) == 17
    rows = duckdb.sql(f"SELECT len(state), len(action) FROM '{tmp_path / found['record']['steps_file']}'").fetchall()
    assert rows == [(8, 7)] * 16
