"""The browser: by textual's pilot, and in a real terminal of 80 x 24."""

from __future__ import annotations

import asyncio
import os
import pty
import select
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pyte
import pytest
from textual.pilot import Pilot
from textual.widgets import Static

from tests.results.made import made_plan, made_record, made_run, write_journal
from vlaeval_hpc.results.browser.app import Browser
from vlaeval_hpc.results.browser.lines import Lines
from vlaeval_hpc.results.export import merge_into_files
from vlaeval_hpc.results.sweep import Point, Points, SweepFolder, write_sweep
from vlaeval_hpc.run.directory import RunDirectory

PATIENCE = 60.0  # seconds; nothing here waits for a clock, this ends what hangs


def some_run(root: Path, won: int, tasks: int = 3, merge: bool = True) -> RunDirectory:
    plan = made_plan(shards=1, tasks=tasks)
    plan.model.update(name="pilot", checkpoint=root.name)
    run = made_run(root, plan)
    records = [made_record(i, i.episode < won) for i in plan.items]
    records[1] = made_record(
        plan.items[1],
        failure="policy_error",
        failure_detail="Segmentation [fault]\nin step",
        video="videos/task-0/0001_error.mp4",
    )
    write_journal(run, plan, 0, records)
    (run.logs / "shard-0.log").write_text(
        "[0/12] task-0 episode 0: won\nlibGL: no [swrast]\n[1/12] task-0 episode 1: broke\n"
    )
    run.provenance.write_text('{"command": "python -m vlaeval_hpc model=pilot"}')
    if merge:
        merge_into_files(run)
    return run


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "results"
    first = some_run(root / "alpha_metaworld_1", won=1)
    second = some_run(root / "beta_libero_2", won=4)
    some_run(root / "gamma_metaworld_3", won=3, tasks=2, merge=False)
    sweep = SweepFolder(root / "sweeps" / "steps")
    points = [Point("10", [], 10, sweep.link(first)), Point("20", [], 20, sweep.link(second))]
    sweep.save(Points(varied=["model.checkpoint"], points=points))
    write_sweep(sweep)
    return root


def piloted(root: Path, tmp_path: Path, act: Callable[[Pilot[None]], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        app = Browser(root, tmp_path / "cache")
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: "3 runs" in title(pilot))
            await act(pilot)

    asyncio.run(run())


async def until(pilot: Pilot[None], condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, screen(pilot)
        await pilot.pause()


def title(pilot: Pilot[None]) -> str:
    return "".join(str(widget.render()) for widget in pilot.app.screen.query("#title").results(Static))


def text(pilot: Pilot[None]) -> str:
    return "".join(str(widget.render()) for widget in pilot.app.screen.query("#text").results(Static))


def rows(pilot: Pilot[None]) -> list[list[str]]:
    return [list(row.cells) for row in pilot.app.screen.query_one(Lines).rows]


def screen(pilot: Pilot[None]) -> str:
    return f"{title(pilot)}\n{text(pilot)}"


def test_runs_and_sweeps_with_state_and_interval(root: Path, tmp_path: Path) -> None:
    async def act(pilot: Pilot[None]) -> None:
        cells = {row[1]: row for row in rows(pilot)}
        assert list(cells) == ["sweeps/steps", "gamma_metaworld_3", "beta_libero_2", "alpha_metaworld_1"]
        state, _, mean, episodes, age, owner = cells["alpha_metaworld_1"]
        assert (state, mean, episodes) == ("done", "25.0 [8.9, 53.2]", "12") and age.endswith("s") and owner
        assert cells["sweeps/steps"][0] == "sweep" and cells["sweeps/steps"][3] == "2/2 pts"

    os.utime(root / "gamma_metaworld_3" / "shards", (4e9, 4e9))
    os.utime(root / "beta_libero_2", (3.9e9, 3.9e9))
    piloted(root, tmp_path, act)


def test_filter_and_sort(root: Path, tmp_path: Path) -> None:
    async def act(pilot: Pilot[None]) -> None:
        await pilot.press("slash", *"metaworld", "enter")
        assert sorted(row[1] for row in rows(pilot)) == ["alpha_metaworld_1", "gamma_metaworld_3"]
        await pilot.press("slash", *" beta")
        assert rows(pilot) == []
        await pilot.press("enter", "enter", "escape")  # nothing is under the cursor
        assert len(rows(pilot)) == 4
        names = []
        for order in ("name", "mean", "state", "owner", "age"):
            await pilot.press("s")
            assert f"by {order}" in title(pilot)
            names.append([row[1] for row in rows(pilot)][1:])
        assert names[0] == ["alpha_metaworld_1", "beta_libero_2", "gamma_metaworld_3"]
        assert names[1] == ["beta_libero_2", "gamma_metaworld_3", "alpha_metaworld_1"]

    piloted(root, tmp_path, act)


def test_down_to_an_episodes_failure_and_log(root: Path, tmp_path: Path) -> None:
    async def act(pilot: Pilot[None]) -> None:
        await pilot.press("slash", *"alpha", "enter", "enter")
        await until(pilot, lambda: "25.0 [8.9, 53.2] of 12" in title(pilot))
        assert "policy_error 1" in title(pilot)
        assert rows(pilot)[0] == ["task-0", "4", "25.0 [4.6, 69.9]", "1"]
        await pilot.press("enter")
        assert rows(pilot)[0] == ["1", "error", "20", "1.5", "policy_error"]
        assert [row[1] for row in rows(pilot)[1:]] == ["success", "failure", "failure"]
        await pilot.press("enter")
        await until(pilot, lambda: "libGL" in text(pilot))
        assert f"{root}/alpha_metaworld_1/videos/task-0/0001_error.mp4, which is gone" in text(pilot)
        assert "Segmentation [fault]\nin step" in text(pilot) and "logs/shard-0.log:" in text(pilot)
        assert "libGL: no [swrast]\n[1/12] task-0 episode 1: broke" in text(pilot) and "episode 0" not in text(pilot)
        await pilot.press("escape", "escape", "p")
        await until(pilot, lambda: "model=pilot" in text(pilot))
        await pilot.press("escape", "escape")
        assert "3 runs" in title(pilot)

    piloted(root, tmp_path, act)


def test_two_marked_runs_are_compared(root: Path, tmp_path: Path) -> None:
    async def act(pilot: Pilot[None]) -> None:
        await pilot.press("s", "down", "space", "c")
        assert "two runs are compared, 1 marked" in title(pilot)
        await pilot.press("space", "c")
        await until(pilot, lambda: "verdict" in text(pilot))
        assert "alpha_metaworld_1 and beta_libero_2" in title(pilot) and "better" in text(pilot)
        assert max(map(len, text(pilot).splitlines())) <= 80
        await pilot.press("escape", "up", "space", "down", "space", "c")
        await until(pilot, lambda: "does not pair" in text(pilot))

    piloted(root, tmp_path, act)


def test_a_sweep_is_opened(root: Path, tmp_path: Path) -> None:
    async def act(pilot: Pilot[None]) -> None:
        await pilot.press("home", "enter")
        await until(pilot, lambda: "letters" in text(pilot))
        assert "model.checkpoint" in text(pilot)

    piloted(root, tmp_path, act)


def test_a_new_run_is_seen(root: Path, tmp_path: Path) -> None:
    async def act(pilot: Pilot[None]) -> None:
        some_run(root / "delta", won=2)
        await pilot.press("r")
        await until(pilot, lambda: "4 runs" in title(pilot))
        assert "delta" in [row[1] for row in rows(pilot)]

    piloted(root, tmp_path, act)


def test_ten_thousand_rows_are_moved_through(root: Path, tmp_path: Path) -> None:
    async def act(pilot: Pilot[None]) -> None:
        from vlaeval_hpc.results.browser.lines import Row

        lines = pilot.app.screen.query_one(Lines)
        cells = rows(pilot)[0]
        lines.show([Row(str(n), [*cells[:1], f"run {n}", *cells[2:]]) for n in range(10_000)])
        await pilot.press("end")
        assert lines.current is not None and lines.current.key == "9999"
        assert "run 9999" in lines.render_line(lines.size.height - 1).text
        await pilot.press("pageup", "home", "down")
        assert lines.current.key == "1" and "run 1 " in lines.render_line(2).text
        await pilot.click(Lines, offset=(10, 6))
        assert lines.current.key == "5"

    piloted(root, tmp_path, act)


class Terminal:
    """The command in a pseudo-terminal, and what is on its screen."""

    def __init__(self, *arguments: str, **variables: str) -> None:
        self.screen = pyte.Screen(80, 24)
        self._stream = pyte.ByteStream(self.screen)
        self.pid, self._handle = pty.fork()
        if self.pid == 0:
            os.environ.update(TERM="xterm-256color", COLUMNS="80", LINES="24", **variables)
            os.execv(sys.executable, [sys.executable, "-m", "vlaeval_hpc", *arguments])

    def press(self, keys: str) -> None:
        os.write(self._handle, keys.encode())

    def wait_for(self, words: str) -> None:
        end = time.monotonic() + PATIENCE
        while not any(words in line for line in self.screen.display):
            assert time.monotonic() < end, "\n".join(self.screen.display)
            if select.select([self._handle], [], [], 1.0)[0]:
                self._stream.feed(os.read(self._handle, 65536))

    def left(self) -> int:
        """The exit status; what is still printed is read, or the process would wait for that."""
        try:
            while os.read(self._handle, 65536):
                pass
        except OSError:
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def test_in_a_terminal(root: Path, tmp_path: Path) -> None:
    terminal = Terminal("browse", str(root), VLAEVAL_HPC_CACHE=str(tmp_path / "cache"))
    terminal.wait_for("alpha_metaworld_1")
    terminal.wait_for("Compare 2")
    line = next(line for line in terminal.screen.display if "alpha" in line)
    assert line.split()[:4] == ["done", "alpha_metaworld_1", "25.0", "[8.9,"]
    terminal.press("/")
    terminal.wait_for("words of name")
    terminal.press("alpha\r")
    terminal.wait_for("filter: alpha")
    terminal.wait_for("Compare 2")  # the keys are the table's again
    terminal.press("\r")
    terminal.wait_for("task-2")
    terminal.press("\r")
    terminal.wait_for("outcome")
    terminal.press("\r")
    terminal.wait_for("Segmentation [fault]")
    terminal.press("q")
    assert terminal.left() == 0


def test_without_a_terminal(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    status = os.spawnv(
        os.P_WAIT, "/bin/sh", ["sh", "-c", f"{sys.executable} -m vlaeval_hpc browse {root} </dev/null | cat; true"]
    )
    assert status == 0 and "browse: needs a terminal" in capfd.readouterr().err
