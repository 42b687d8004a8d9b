"""recording=: videos and steps, their names, and that nothing else changes by them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import duckdb
import imageio_ffmpeg
import numpy as np
import pytest

from tests.conftest import Command
from tests.doubles.toy import Toy
from tests.toys import TOY, journal, merged, outcomes
from vlaeval_hpc.config.schema import RecordingConfig
from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.launch.recording import recording_section
from vlaeval_hpc.run.directory import RunDirectory
from vlaeval_hpc.run.plan import Item, Plan
from vlaeval_hpc.worker.client import Client, ServerLost
from vlaeval_hpc.worker.episode import run_episode
from vlaeval_hpc.worker.recording import Recorder
from vlaeval_hpc.worker.video import FFMPEG, Film, side_by_side

CAMERAS = "benchmark.observe=[front,state]"


@pytest.fixture(autouse=True)
def ffmpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FFMPEG, imageio_ffmpeg.get_ffmpeg_exe())


class Scripted(Client):
    """A server's side of an episode: chunks of `size`, and what was shown for each."""

    def __init__(self, size: int, lost_at: int = -1) -> None:
        self._size = size
        self._lost_at = lost_at
        self.shown: list[dict[str, Any]] = []

    connected = True  # type: ignore[assignment]

    def start(self, task: dict[str, Any], mode: str | None = None) -> None:
        self._rng = np.random.default_rng(task["episode_idx"])

    def act(self, observation: dict[str, Any]) -> Any:
        if len(self.shown) == self._lost_at:
            raise ServerLost("gone")
        self.shown.append(observation)
        return self._rng.uniform(-1, 1, (self._size, 2)).astype(np.float32)

    def end(self, result: dict[str, Any]) -> None:
        pass


class Eyes(Toy):
    """A toy with two cameras that says what was rendered when."""

    observation_spec = {**Toy.observation_spec, "back": Toy.observation_spec["front"]}

    def reset(self, task: Any, episode: int) -> None:
        super().reset(task, episode)
        self.rendered: list[int] = []
        self._looked = True

    def observe(self) -> dict[str, Any]:
        assert self._looked or not self.cameras
        seen = super().observe()
        if self.cameras:
            self.rendered.append(self._steps)
            seen["images"] = {
                name: np.full((8, 10, 3), self._steps * 20 + (name == "back"), np.uint8) for name in self.cameras
            }
        return seen

    def step(self, action: Any, look: bool = True) -> bool:
        self._looked = look
        return super().step(action, look)


def play(
    folder: Path, looks: list[str], size: int = 4, episode: int = 0, client: Scripted | None = None, **recording: Any
) -> tuple[dict[str, Any], Scripted, Eyes]:
    """An episode of the toy: its record, what the policy saw, the benchmark."""
    run, benchmark = RunDirectory(folder), Eyes(seed=3, tasks=1)
    run.create()
    tasks = benchmark.tasks()
    plan = Plan("r", "toy", 1, [], tasks, {}, {}, {}, recording=recording)
    recorder, client = Recorder(run, 0, plan), client or Scripted(size)
    recorder.select(benchmark, looks)
    record = run_episode(benchmark, tasks[0], Item("task-0", episode, 3), client, 12, lambda _: None, recorder)
    return record, client, benchmark


def frames(path: Path) -> list[Any]:
    """A video's pictures, (h, w, 3) uint8."""
    reader = imageio_ffmpeg.read_frames(str(path))
    width, height = next(reader)["size"]
    return [np.frombuffer(raw, np.uint8).reshape(height, width, 3) for raw in reader]


def same(a: Any, b: Any) -> bool:
    return json.dumps(a, default=lambda v: [v.dtype.str, v.tolist()]) == json.dumps(
        b, default=lambda v: [v.dtype.str, v.tolist()]
    )


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("looks", [["front", "state"], ["state"], ["front", "back", "language"]])
def test_policies_see_the_same_whatever_is_recorded(tmp_path: Path, looks: list[str], every: int) -> None:
    plain, shown, _ = play(tmp_path / "plain", looks)
    filmed, shown_too, benchmark = play(
        tmp_path / "filmed", looks, video=True, steps=True, cameras=["back"], every=every, fps=5
    )
    assert same(shown.shown, shown_too.shown)
    strip = {"elapsed_sec", "video", "steps_file"}
    assert {k: v for k, v in plain.items() if k not in strip} == {k: v for k, v in filmed.items() if k not in strip}
    assert benchmark.rendered == sorted(set(benchmark.rendered)), "something was rendered twice"
    assert len(frames(tmp_path / "filmed" / filmed["video"])) == filmed["steps"] // every + 1
    if "front" not in looks:
        assert benchmark.rendered == list(range(0, 13, every)), "only for the video"


def test_what_a_video_shows(tmp_path: Path) -> None:
    record, _, benchmark = play(tmp_path, ["front", "state"], video=True, every=3, fps=5)
    assert record["video"] == "videos/task-0/0000_failure.mp4"
    shot = frames(tmp_path / record["video"])
    assert [round(float(f.mean())) for f in shot] == pytest.approx([0, 60, 120, 180, 240], abs=4)
    assert benchmark.rendered == [0, 3, 4, 6, 8, 9, 12]
    assert shot[0].shape == (8, 10, 3)
    assert [p.name for p in (tmp_path / "videos").rglob("*") if p.is_file()] == ["0000_failure.mp4"]


def test_the_same_episode_is_the_same_file(tmp_path: Path) -> None:
    first, second = (play(tmp_path / n, ["state"], video=True, steps=True)[0] for n in ("a", "b"))
    for key in ("video", "steps_file"):
        assert (tmp_path / "a" / first[key]).read_bytes() == (tmp_path / "b" / second[key]).read_bytes()


def test_steps_are_kept_without_rendering(tmp_path: Path) -> None:
    record, _, benchmark = play(tmp_path, ["front"], steps=True)
    assert benchmark.rendered == [0, 4, 8]
    assert record["steps_file"] == "steps/task-0/0000_failure.parquet"
    table = duckdb.sql(f"SELECT * FROM '{tmp_path / record['steps_file']}'")
    assert table.columns == ["task", "episode", "seed", "step", "instruction", "state", "action", "done"]
    rows = table.fetchall()
    assert [row[:4] for row in rows] == [("task-0", 0, 3, i) for i in range(record["steps"])]
    assert [row[5][2] for row in rows] == list(range(12)), "the state before each action"
    assert [row[6] for row in rows][:4] == np.random.default_rng(0).uniform(-1, 1, (4, 2)).astype(np.float32).tolist()
    assert [row[7] for row in rows] == [False] * 12


def test_which_episodes(tmp_path: Path) -> None:
    few = [play(tmp_path / "few", ["state"], episode=e, steps=True, video=True, which=2)[0] for e in range(3)]
    assert [r.get("steps_file") for r in few] == [f"steps/task-0/000{e}_failure.parquet" for e in (0, 1)] + [None]
    assert ["video" in r for r in few] == [True, True, False]
    won = {"video": True, "steps": True, "which": "failures"}
    found = [play(tmp_path / "lost", ["state"], size=1, episode=e, **won)[0] for e in range(9)]
    assert {r["metrics"]["success"] for r in found} == {True, False}, "the toy shall be won now and then"
    assert all(("video" in r) is ("steps_file" in r) is not r["metrics"]["success"] for r in found)
    assert not [p for p in (tmp_path / "lost").rglob("*") if "success" in p.name or p.name.startswith(".")]


def test_an_outcome_stands_before_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "videos" / "task-0"
    folder.mkdir(parents=True)
    (folder / "0000_error.mp4").touch()
    (folder / "0001_failure.mp4").touch()
    play(tmp_path, ["state"], video=True)
    assert [p.name for p in folder.glob("0000*")] == ["0000_failure.mp4"]

    class Wrong(Scripted):
        def act(self, observation: Any) -> Any:
            return np.full((1, 2), np.nan)

    record, _, _ = play(tmp_path, ["state"], episode=1, client=Wrong(1), video=True)
    assert record["failure_reason"] == "bad_action" and "video" not in record
    assert [p.name for p in folder.glob("0001*")] == ["0001_failure.mp4"]
    record, _, _ = play(tmp_path, ["state"], episode=2, client=Wrong(1), video=True, steps=True)
    assert record["video"] == "videos/task-0/0002_error.mp4"
    assert duckdb.sql(f"SELECT count(*) FROM '{tmp_path / record['steps_file']}'").fetchall() == [(0,)]


def test_nothing_is_left_of_an_episode_that_does_not_count(tmp_path: Path) -> None:
    with pytest.raises(ServerLost):
        play(tmp_path, ["state"], client=Scripted(2, lost_at=2), video=True, steps=True)
    assert not [p for p in tmp_path.rglob("*") if p.suffix in (".mp4", ".parquet")]


def test_what_cannot_be_recorded_costs_no_episode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "ffmpeg"
    broken.write_text('#!/bin/sh\n[ "$1" = -version ] && exit 0\necho no space left >&2\nexit 1\n')
    broken.chmod(0o755)
    monkeypatch.setenv(FFMPEG, str(broken))
    record, _, _ = play(tmp_path / "run", ["state"], video=True, steps=True)
    assert record["steps"] == 12 and "failure_reason" not in record and "video" not in record
    assert "warning: " in capfd.readouterr().out


def test_no_ffmpeg_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FFMPEG, str(tmp_path / "none"))
    with pytest.raises(ConfigurationError, match=r"recording=video: .*none does not run here"):
        play(tmp_path, ["state"], video=True)
    monkeypatch.delenv(FFMPEG)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigurationError, match="no ffmpeg here: valid: VLAEVAL_HPC_FFMPEG=PATH"):
        play(tmp_path, ["state"], video=True)


def test_cameras_side_by_side(tmp_path: Path) -> None:
    wide = side_by_side(
        [np.full((4, 6), 9, np.uint8), np.full((6, 2, 4), 7, np.uint8), np.full((5, 1, 1), 5, np.uint8)]
    )
    assert wide.shape == (6, 9, 3)
    assert wide[:, 0, 0].tolist() == [9, 9, 9, 9, 0, 0] and wide[:, 7, 2].tolist() == [7] * 6
    film = Film(imageio_ffmpeg.get_ffmpeg_exe(), tmp_path / "a.mp4", 10)
    film.add(wide)
    with pytest.raises(ValueError, match="frames of"):
        film.add(wide[:4])
    assert film.close() and frames(tmp_path / "a.mp4")[0].shape == (6, 10, 3)


def test_names_of_tasks_become_folders(tmp_path: Path) -> None:
    names = ["a b", "a_b", "../x", "z" * 300]
    plan = Plan("r", "toy", 1, [], [{"name": n} for n in names], {}, {}, {}, recording={"steps": True})
    folders = Recorder(RunDirectory(tmp_path), 0, plan)._folders
    assert len(set(folders.values())) == 4 and folders["../x"] == "_x"
    assert all("/" not in f and 0 < len(f) < 120 and not f.startswith(".") for f in folders.values())


def test_a_run_whatever_its_shards(tmp_path: Path, vlaeval: Command) -> None:
    once = tmp_path / "once"
    once.mkdir()
    fault = ["+benchmark.params.faults={task-0/1:raise,task-1/2:crash}", f"benchmark.params.once={once}"]
    for shards in (1, 3):
        run = [*TOY, CAMERAS, f"cluster.shards={shards}", f"run=r{shards}"]
        more = fault if shards == 3 else []
        done = vlaeval(*run, "recording=video", "recording.steps=true", *[m.lstrip("+") for m in more])
        assert done.returncode == 0, done.stdout + done.stderr
    plain = vlaeval(*TOY, CAMERAS, "run=plain")
    assert plain.returncode == 0
    one, three = merged(tmp_path, "r1"), merged(tmp_path, "r3")
    assert outcomes(one) == outcomes(three) == outcomes(merged(tmp_path, "plain"))
    for result, run_name in ((one, "r1"), (three, "r3")):
        folder = tmp_path / "results" / run_name
        kept = set()
        for task in result["tasks"]:
            for e in task["episodes"]:
                outcome = "success" if e["metrics"]["success"] else "failure"
                assert e["video"] == f"videos/{task['task']}/000{e['episode_id']}_{outcome}.mp4"
                assert len(frames(folder / e["video"])) == e["steps"] + 1
                kept |= {e["video"], e["steps_file"]}
        files = [p for name in ("videos", "steps") for p in (folder / name).rglob("*") if p.is_file()]
        assert {p.relative_to(folder).as_posix() for p in files} == kept
        rows = duckdb.sql(f"SELECT count(*) FROM '{folder}/steps/*/*.parquet'").fetchall()
        assert rows == [(sum(e["steps"] for t in result["tasks"] for e in t["episodes"]),)]
    a, b = tmp_path / "results" / "r1", tmp_path / "results" / "r3"
    assert all((b / p.relative_to(a)).read_bytes() == p.read_bytes() for p in a.glob("videos/*/*.mp4"))
    assert len(journal(tmp_path, "r3")) > len(journal(tmp_path, "r1")), "the faults happened"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"which": "some"}, "recording.which=some: valid: all, failures, or a number of episodes a task"),
        ({"which": 0}, "recording.which=0: valid: all, failures"),
        ({"fps": 0.0}, "recording.fps=0.0: valid: above 0"),
        ({"cameras": ["side"]}, "unknown recording.cameras 'side': valid: front"),
    ],
)
def test_wrong_words(wrong: dict[str, Any], said: str) -> None:
    spec = {name: spec.to_dict() for name, spec in Toy.observation_spec.items()}
    with pytest.raises(ConfigurationError, match=re.escape(said)):
        recording_section(RecordingConfig(video=True, **wrong), spec)
    assert recording_section(RecordingConfig(), spec) == {}


def test_an_unknown_recording_is_told(vlaeval: Command) -> None:
    done = vlaeval(*TOY, "recording=movie")
    assert (
        done.returncode == 2
        and "unknown recording 'movie': did you mean video? valid: none, steps, video" in done.stderr
    )
