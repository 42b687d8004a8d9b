"""A run's recorded episodes as a LeRobot dataset (version 3.0 of its format, as LeRobot 0.4 reads and trains on it)."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.results.rundir import merge_run
from vlaeval_hpc.run.directory import RunDirectory
from vlaeval_hpc.run.files import write_json
from vlaeval_hpc.run.plan import Plan

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

EPISODES_A_FILE = 100
FILES_A_CHUNK = 1000
SAMPLED_VIDEOS, SAMPLED_EVERY = 50, 10  # whose pixels the statistics are of
_PATH = "chunk-{chunk_index:03d}/file-{file_index:03d}"
_WHO = ("frame_index", "episode_index", "index", "task_index")


class Recorded(NamedTuple):
    """An episode with its files; `cameras` maps those that its video shows, from the left, to (width, height)."""

    steps_file: Path
    video: Path | None
    length: int
    cameras: Mapping[str, Sequence[int]]


def write_lerobot(run: RunDirectory, output: Path, only: str | None) -> int:
    """Make the folder `output` of the episodes that were recorded: how many they are. It is whole or absent.

    `only` success or failure. A row is a step: `observation.state` and `observation.images.CAMERA` before the `action`.
    Raises ConfigurationError where the folder exists, nothing was recorded, or the videos do not show every step.
    """
    if output.exists():
        raise ConfigurationError(f"export: {output} exists: choose another folder")
    connection = _connect()
    episodes = _recorded(run, only, connection)
    plan = Plan.load(run.plan)
    fps = plan.recording.get("fps", 20.0)
    if episodes[0].cameras and plan.recording.get("every", 1) != 1:
        raise ConfigurationError("export: recording.every is not 1: a dataset needs a picture of every step")
    if fps != int(fps):
        raise ConfigurationError(f"export: recording.fps={fps}: valid: a whole number")
    output.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    try:
        _Writer(folder, episodes, int(fps), connection).write()
        folder.chmod(0o755)
        folder.rename(output)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return len(episodes)


class _Writer:
    """Writes one dataset."""

    def __init__(self, folder: Path, episodes: Sequence[Recorded], fps: int, connection: DuckDBPyConnection) -> None:
        self._folder = folder
        self._episodes = episodes
        self._fps = fps
        self._sql = connection
        self._cameras = episodes[0].cameras
        self._vectors: dict[str, int] = {}

    def write(self) -> None:
        self._register()
        tasks = self._write_tasks()
        self._write_data()
        for number, episode in enumerate(self._episodes):
            self._write_videos(number, episode)
        self._write_episodes()
        write_json(_made(self._folder / "meta" / "info.json"), self._info(len(tasks)))
        write_json(self._folder / "meta" / "stats.json", {**self._vector_stats(), **self._image_stats()})

    def _register(self) -> None:
        """The table `rows`: every step, as the dataset has it but for its task's number."""
        begins = np.cumsum([0, *(e.length for e in self._episodes)])
        self._sql.execute("CREATE TABLE files (file VARCHAR, episode_index BIGINT, begins BIGINT)")
        self._sql.executemany(
            "INSERT INTO files VALUES (?, ?, ?)",
            [[str(e.steps_file), n, int(begins[n])] for n, e in enumerate(self._episodes)],
        )
        names = [str(e.steps_file) for e in self._episodes]
        first = self._sql.execute("SELECT * FROM read_parquet(?) LIMIT 1", [names[0]])
        held = [str(column[0]) for column in first.description or []]
        state = 'CAST(state AS FLOAT[]) AS "observation.state",' if "state" in held else ""
        self._sql.execute(
            f"""CREATE TABLE rows AS SELECT {state} CAST(action AS FLOAT[]) AS "action", done AS "next.done",
            CAST(step / {self._fps} AS FLOAT) AS "timestamp", step AS frame_index, f.episode_index,
            f.begins + step AS "index", instruction
            FROM read_parquet(?, filename = true) AS r JOIN files AS f ON r.filename = f.file""",
            [names],
        )
        for key in ("observation.state", "action"):
            if key == "action" or state:
                lengths = self._sql.execute(f'SELECT DISTINCT len("{key}") FROM rows').fetchall()
                if len(lengths) != 1:
                    raise ConfigurationError(f"export: {key} has {len(lengths)} lengths: valid: one")
                self._vectors[key] = int(lengths[0][0])

    def _write_tasks(self) -> list[str]:
        found = self._sql.execute('SELECT instruction FROM rows GROUP BY 1 ORDER BY min("index")').fetchall()
        tasks = [str(row[0]) for row in found]
        self._sql.execute("CREATE TABLE tasks (task_index BIGINT, __index_level_0__ VARCHAR)")
        self._sql.executemany("INSERT INTO tasks VALUES (?, ?)", [[n, task] for n, task in enumerate(tasks)])
        # pandas takes the column for the table's index where this says so, and LeRobot looks tasks up by it.
        columns = [
            {"name": name, "field_name": field, "pandas_type": kind, "numpy_type": kind2, "metadata": None}
            for name, field, kind, kind2 in (
                ("task_index", "task_index", "int64", "int64"),
                (None, "__index_level_0__", "unicode", "object"),
            )
        ]
        about = {
            "index_columns": ["__index_level_0__"],
            "column_indexes": [],
            "columns": columns,
            "pandas_version": "2",
        }
        quoted = json.dumps(about).replace("'", "''")
        path = _made(self._folder / "meta" / "tasks.parquet")
        self._copy("SELECT * FROM tasks ORDER BY task_index", path, f", KV_METADATA {{pandas: '{quoted}'}}")
        return tasks

    def _write_data(self) -> None:
        keys = ", ".join(f'r."{key}"' for key in (*self._vectors, "next.done", "timestamp", *_WHO[:3]))
        for first in range(0, len(self._episodes), EPISODES_A_FILE):
            query = f"""SELECT {keys}, t.task_index
                FROM rows AS r JOIN tasks AS t ON r.instruction = t.__index_level_0__
                WHERE r.episode_index >= {first} AND r.episode_index < {first + EPISODES_A_FILE} ORDER BY r."index" """
            self._copy(query, _made(self._folder / "data" / _named(first // EPISODES_A_FILE, ".parquet")))

    def _write_videos(self, number: int, episode: Recorded) -> None:
        left = 0
        for camera, (width, height) in self._cameras.items():
            assert episode.video is not None
            path = _made(self._folder / "videos" / f"observation.images.{camera}" / _named(number, ".mp4"))
            if len(self._cameras) == 1:
                shutil.copyfile(episode.video, path)
            else:
                _cut(episode.video, path, (width, height, left))
            left += width

    def _write_episodes(self) -> None:
        columns = ["episode_index BIGINT", "tasks VARCHAR[]", "length BIGINT", "dataset_from_index BIGINT",
                   "dataset_to_index BIGINT", '"data/chunk_index" BIGINT', '"data/file_index" BIGINT',
                   '"meta/episodes/chunk_index" BIGINT', '"meta/episodes/file_index" BIGINT']  # fmt: skip
        for camera in self._cameras:
            key = f"videos/observation.images.{camera}"
            columns += [f'"{key}/chunk_index" BIGINT', f'"{key}/file_index" BIGINT']
            columns += [f'"{key}/from_timestamp" DOUBLE', f'"{key}/to_timestamp" DOUBLE']
        self._sql.execute(f"CREATE TABLE episodes ({', '.join(columns)})")
        told = dict(
            self._sql.execute("SELECT episode_index, list(DISTINCT instruction) FROM rows GROUP BY 1").fetchall()
        )
        begin, rows = 0, []
        for n, episode in enumerate(self._episodes):
            end, file = begin + episode.length, n // EPISODES_A_FILE
            row = [n, told[n], episode.length, begin, end, file // FILES_A_CHUNK, file % FILES_A_CHUNK, 0, 0]
            rows.append(
                row + [n // FILES_A_CHUNK, n % FILES_A_CHUNK, 0.0, episode.length / self._fps] * len(self._cameras)
            )
            begin = end
        self._sql.executemany(f"INSERT INTO episodes VALUES ({', '.join('?' * len(columns))})", rows)
        path = _made(self._folder / "meta" / "episodes" / _named(0, ".parquet"))
        self._copy("SELECT * FROM episodes ORDER BY episode_index", path)

    def _info(self, tasks: int) -> dict[str, Any]:
        count = len(self._episodes)
        images = {
            f"observation.images.{camera}": {
                "dtype": "video",
                "shape": [height, width, 3],
                "names": ["height", "width", "channels"],
                "info": {
                    "video.height": height, "video.width": width, "video.channels": 3, "video.codec": "h264",
                    "video.pix_fmt": "yuv420p", "video.fps": self._fps, "video.is_depth_map": False, "has_audio": False,
                },
            }
            for camera, (width, height) in self._cameras.items()
        }  # fmt: skip
        vectors = {k: {"dtype": "float32", "shape": [dim], "names": None} for k, dim in self._vectors.items()}
        single = {"next.done": "bool", "timestamp": "float32", **dict.fromkeys(_WHO, "int64")}
        return {
            "codebase_version": "v3.0",
            "robot_type": None,
            "total_episodes": count,
            "total_frames": sum(e.length for e in self._episodes),
            "total_tasks": tasks,
            "chunks_size": FILES_A_CHUNK,
            "data_files_size_in_mb": 100,
            "video_files_size_in_mb": 200,
            "fps": self._fps,
            "splits": {"train": f"0:{count}"},
            "data_path": f"data/{_PATH}.parquet",
            "video_path": f"videos/{{video_key}}/{_PATH}.mp4" if images else None,
            "features": {
                **images, **vectors, **{k: {"dtype": d, "shape": [1], "names": None} for k, d in single.items()},
            },
        }  # fmt: skip

    def _vector_stats(self) -> dict[str, Any]:
        found = {}
        for key in self._vectors:
            rows = self._sql.execute(f'SELECT "{key}" FROM rows').fetchall()
            found[key] = _stats(np.array([row[0] for row in rows], dtype=np.float64))
        return found

    def _image_stats(self) -> dict[str, Any]:
        """Of some frames' pixels, in [0, 1], channels first, as LeRobot normalises them."""
        found = {}
        stride = max(1, len(self._episodes) // SAMPLED_VIDEOS)
        for camera in self._cameras:
            key = f"observation.images.{camera}"
            pixels = [
                frame[::4, ::4].reshape(-1, 3) / 255.0
                for n in range(0, len(self._episodes), stride)
                for frame in _frames(self._folder / "videos" / key / _named(n, ".mp4"))
            ]
            stats = _stats(np.concatenate(pixels))
            found[key] = {k: v if k == "count" else [[[x]] for x in v] for k, v in stats.items()}
        return found

    def _copy(self, query: str, path: Path, options: str = "") -> None:
        name = str(path).replace("'", "''")
        self._sql.execute(f"COPY ({query}) TO '{name}' (FORMAT parquet{options})")


def _recorded(run: RunDirectory, only: str | None, connection: DuckDBPyConnection) -> list[Recorded]:
    """The episodes that have steps, in the order of the result; all with the same cameras, or all without a video."""
    found = []
    for task in merge_run(run)["tasks"]:
        for episode in task["episodes"]:
            outcome = "success" if episode["metrics"].get("success") else "failure"
            if episode.get("steps_file") and not episode.get("failure_reason") and only in (None, outcome):
                path = run.root / episode["steps_file"]
                video = run.root / episode["video"] if episode.get("video") else None
                cameras = _cameras(path, connection) if video is not None else {}
                found.append(Recorded(path, video, int(episode["steps"]), cameras))
    if not found:
        raise ConfigurationError(f"{run.root}: no episode with recorded steps: recording.steps=true records them")
    if any(list(e.cameras.items()) != list(found[0].cameras.items()) for e in found):
        raise ConfigurationError(f"{run.root}: its videos show different cameras, or some episodes have none")
    return found


def _cameras(path: Path, connection: DuckDBPyConnection) -> dict[str, list[int]]:
    rows = connection.execute("SELECT value FROM parquet_kv_metadata(?) WHERE key = 'cameras'::BLOB", [str(path)])
    found: dict[str, list[int]] = json.loads(bytes(rows.fetchall()[0][0]))
    return found


def _connect() -> DuckDBPyConnection:
    import duckdb

    return duckdb.connect(config={"autoinstall_known_extensions": False, "autoload_known_extensions": False})


def _named(number: int, suffix: str) -> str:
    return _PATH.format(chunk_index=number // FILES_A_CHUNK, file_index=number % FILES_A_CHUNK) + suffix


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _stats(values: NDArray[np.float64]) -> dict[str, Any]:
    """(n, dim) as LeRobot keeps it."""
    quantiles = {f"q{q:02d}": np.quantile(values, q / 100, axis=0).tolist() for q in (1, 10, 50, 90, 99)}
    plain = {name: getattr(values, name)(axis=0).tolist() for name in ("min", "max", "mean", "std")}
    return {**plain, "count": [len(values)], **quantiles}


def _cut(video: Path, path: Path, where: tuple[int, int, int]) -> None:
    """One camera's part of a video, (width, height, left)."""
    from imageio_ffmpeg import get_ffmpeg_exe  # type: ignore[import-untyped]

    width, height, left = where
    crop = f"crop={width}:{height}:{left}:0,pad=ceil(iw/2)*2:ceil(ih/2)*2"
    writes = ["-c:v", "libx264", "-preset", "veryfast", "-crf", "16", "-pix_fmt", "yuv420p", str(path)]
    subprocess.run([get_ffmpeg_exe(), "-loglevel", "error", "-i", str(video), "-vf", crop, *writes], check=True)


def _frames(video: Path) -> Iterable[NDArray[np.uint8]]:
    from imageio_ffmpeg import read_frames

    reader = read_frames(str(video))
    width, height = next(reader)["size"]
    for n, raw in enumerate(reader):
        if n % SAMPLED_EVERY == 0:
            yield np.frombuffer(raw, np.uint8).reshape(height, width, 3)
