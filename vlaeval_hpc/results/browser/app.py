"""The screens of the browser: a root's runs and sweeps, a run's tasks, a task's episodes, an episode, a comparison."""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from rich.console import Console
from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import Screen
from textual.widgets import Footer, Input, Static

from vlaeval_hpc.errors import VlaevalError
from vlaeval_hpc.results.browser import rows
from vlaeval_hpc.results.browser.lines import Lines, Row
from vlaeval_hpc.results.index import Entry, Index, headline, known_index, read_index, user_name
from vlaeval_hpc.results.memory import uncollected
from vlaeval_hpc.run.directory import RunDirectory

LOOK_EVERY = 30.0  # seconds
RECORDED = ("video", "steps_file")  # keys of an episode that name files in the run directory


class Browser(App[None]):
    """Shows what was known last time at once, and what has changed since as soon as it is read."""

    CSS = """
    Screen { background: ansi_default; }
    #title { height: auto; max-height: 8; text-style: bold; }
    Input { height: 1; border: none; padding: 0; display: none; }
    Input.open { display: block; }
    """
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [Binding("q", "quit", "Quit"), Binding("ctrl+c", "quit", show=False)]

    def __init__(self, root: Path, cache: Path) -> None:
        super().__init__(ansi_color=True)
        self.root = root
        self.cache = cache

    def on_mount(self) -> None:
        self.push_screen(Runs(self.root, self.cache))


class Page(Screen[None]):
    """A screen that the one below it opened."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,backspace,left", "leave", "Back")]

    def action_leave(self) -> None:
        self.dismiss()


class Runs(Screen[None]):
    """The runs and sweeps under a root."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "Filter"),
        Binding("s", "sort", "Sort"),
        Binding("space", "mark", "Mark"),
        Binding("c", "compare", "Compare 2"),
        Binding("r", "look", "Look again"),
        Binding("escape", "all", show=False),
    ]

    def __init__(self, root: Path, cache: Path) -> None:
        super().__init__()
        self._root = root
        self._cache = cache
        self._index = known_index(root, cache)
        self._order = "age"
        self._words = ""
        self._note = ""
        self._looking = False
        self._sweeps: dict[str, Mapping[str, Any] | None] = {}

    def compose(self) -> ComposeResult:
        yield Static(id="title", markup=False)
        yield Lines(rows.RUNS)
        yield Input(placeholder="words of name, state, model, checkpoint, benchmark or owner", select_on_focus=False)
        yield Footer()

    def on_mount(self) -> None:
        self.query_one(Lines).focus()
        self._show()
        self.set_interval(LOOK_EVERY, self.action_look)
        # The first screen is drawn before the work begins: it would be in its way.
        self.call_after_refresh(self.action_look)

    def action_look(self) -> None:
        if not self._looking:
            self._looking = True
            self._look()

    @work(thread=True)
    def _look(self) -> None:
        def progress(count: int) -> None:
            if count % 100 == 0:
                self.app.call_from_thread(self._tell, f"{count} runs read")

        try:
            index: Index | None = read_index(self._root, self._cache, progress)
            note = "; ".join(index.problems[:1]) if index else ""
        except VlaevalError as error:
            index, note = None, str(error)
        self.app.call_from_thread(self._looked, index, note)

    def _looked(self, index: Index | None, note: str) -> None:
        self._looking = False
        self._index = index or self._index
        self._sweeps.clear()
        self._tell(note)
        self._show()

    def _tell(self, note: str) -> None:
        self._note = note
        self._title()

    @uncollected()
    def _show(self) -> None:
        if self._index is None:
            self._title()
            return
        now = time.time()
        found = [rows.run_row(e, now) for e in rows.chosen(self._index.runs, self._words, self._order)]
        wanted = self._words.lower().split()
        sweeps = [path for path in self._index.sweeps if all(word in f"sweep {path}".lower() for word in wanted)]
        self.query_one(Lines).show([*(self._sweep_row(path, now) for path in sweeps), *found])
        self._title()

    def _sweep_row(self, path: str, now: float) -> Row:
        folder = self._root / path
        if path not in self._sweeps:
            self._sweeps[path] = read_sweep_file(folder)
        try:
            stat = os.stat(folder / "sweep.json")
        except OSError:
            return rows.sweep_row(path, None, now, now, "")
        return rows.sweep_row(path, self._sweeps[path], now, stat.st_mtime, user_name(stat.st_uid))

    def _title(self) -> None:
        if self._index is None:
            text = f"{self._root}: looking for runs"
        else:
            running = sum(entry.state == "running" for entry in self._index.runs)
            text = f"{self._root}: {len(self._index.runs)} runs, {running} running; by {self._order}"
        if self._words:
            text += f"; filter: {self._words}: {len(self.query_one(Lines).rows)} shown"
        self.query_one("#title", Static).update(text + (f"; {self._note}" if self._note else ""))

    def action_filter(self) -> None:
        field = self.query_one(Input)
        field.add_class("open")
        field.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        self._words = event.value
        self._show()

    def on_input_submitted(self) -> None:
        self.query_one(Input).remove_class("open")
        self.query_one(Lines).focus()

    def action_all(self) -> None:
        self.query_one(Input).value = ""
        self.on_input_submitted()

    def action_sort(self) -> None:
        orders = list(rows.ORDERS)
        self._order = orders[(orders.index(self._order) + 1) % len(orders)]
        self._show()

    def action_mark(self) -> None:
        self.query_one(Lines).toggle_mark()

    def action_compare(self) -> None:
        marked = sorted(self.query_one(Lines).marked)
        runs = [RunDirectory(self._root / path) for path in marked]
        if len(runs) != 2 or not all(run.plan.is_file() for run in runs):
            self._tell(f"two runs are compared, {len(marked)} marked: mark with space")
            return
        self.app.push_screen(Text(f"{marked[0]} and {marked[1]}", lambda width: comparison(runs, width)))

    def on_lines_opened(self, event: Lines.Opened) -> None:
        entry = next((e for e in self._index.runs if e.path == event.key), None) if self._index else None
        if entry is not None and self._index is not None:
            self.app.push_screen(Tasks(self._index.run(entry), entry))
        else:
            folder = self._root / event.key
            self.app.push_screen(Text(event.key, lambda width: sweep_text(folder, width)))


class Tasks(Page):
    """A run's tasks."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("p", "provenance", "Provenance")]

    def __init__(self, run: RunDirectory, entry: Entry) -> None:
        super().__init__()
        self._run = run
        self._entry = entry
        self._tasks: dict[str, Mapping[str, Any]] = {}

    def compose(self) -> ComposeResult:
        yield Static(f"{self._entry.path}: reading", id="title", markup=False)
        yield Lines(rows.TASKS)
        yield Footer()

    def on_mount(self) -> None:
        self.query_one(Lines).focus()
        self._read()

    @work(thread=True)
    def _read(self) -> None:
        from vlaeval_hpc.results.rundir import current_merge
        from vlaeval_hpc.results.table import remarks

        try:
            merged = current_merge(self._run)
        except VlaevalError as error:
            self.app.call_from_thread(self.query_one("#title", Static).update, str(error))
            return
        metric = headline(merged.get("metric_keys", {}))
        interval = merged.get(f"mean_{metric}_interval")
        total = rows.told(merged.get(f"mean_{metric}"), interval, metric == "success")
        head = f"{self._entry.path}: {self._entry.state}, {metric} {total} of {merged['num_episodes']} episodes"
        self._tasks = {task["task"]: task for task in merged["tasks"]}
        shown = [rows.task_row(task, metric) for task in merged["tasks"]]
        self.app.call_from_thread(self._show, "\n".join([head, *remarks(merged)[:5]]), shown)

    def _show(self, title: str, shown: Sequence[Row]) -> None:
        self.query_one("#title", Static).update(title)
        self.query_one(Lines).show(shown)

    def on_lines_opened(self, event: Lines.Opened) -> None:
        self.app.push_screen(Episodes(self._run, self._tasks[event.key]))

    def action_provenance(self) -> None:
        self.app.push_screen(Text(f"{self._entry.path}: provenance", lambda _: provenance_text(self._run)))


class Episodes(Page):
    """A task's episodes, what failed first."""

    def __init__(self, run: RunDirectory, task: Mapping[str, Any]) -> None:
        super().__init__()
        self._run = run
        self._shown = task

    def compose(self) -> ComposeResult:
        yield Static(self._shown["task"], id="title", markup=False)
        yield Lines(rows.EPISODES)
        yield Footer()

    def on_mount(self) -> None:
        order = sorted(self._shown["episodes"], key=lambda e: (not e.get("failure_reason"), e["episode_id"]))
        lines = self.query_one(Lines)
        lines.show([rows.episode_row(episode) for episode in order])
        lines.focus()

    def on_lines_opened(self, event: Lines.Opened) -> None:
        name = self._shown["task"]
        episode = next(e for e in self._shown["episodes"] if str(e["episode_id"]) == event.key)
        self.app.push_screen(
            Text(f"{name} episode {event.key}", lambda _: episode_text(self._run, name, episode)),
        )


class Text(Page):
    """Lines to read, made when the screen's width is known."""

    def __init__(self, title: str, make: Callable[[int], str]) -> None:
        super().__init__()
        self._title_text = title
        self._make = make

    def compose(self) -> ComposeResult:
        yield Static(self._title_text, id="title", markup=False)
        with VerticalScroll():
            yield Static("reading", id="text", markup=False)
        yield Footer()

    def on_mount(self) -> None:
        self.query_one(VerticalScroll).focus()
        self._read()

    @work(thread=True)
    def _read(self) -> None:
        try:
            text = self._make(self.app.size.width - 2)
        except VlaevalError as error:
            text = str(error)
        self.app.call_from_thread(self.query_one("#text", Static).update, text)


def read_sweep_file(folder: Path) -> Mapping[str, Any] | None:
    """A sweep.json, None where it cannot be read."""
    try:
        found = json.loads((folder / "sweep.json").read_text())
        return found if isinstance(found, dict) and "points" in found else None
    except (OSError, ValueError):
        return None


def sweep_text(folder: Path, width: int) -> str:
    """What a sweep's points show together, as of now. Raises ConfigurationError where that cannot be read."""
    from vlaeval_hpc.results.sweep import SweepFolder, read_sweep
    from vlaeval_hpc.results.sweeptable import print_sweep

    console = _console(width)
    print_sweep(console, read_sweep(SweepFolder(folder)))
    return _said(console)


def comparison(runs: Sequence[RunDirectory], width: int) -> str:
    """What `compare` prints of runs. Raises ConfigurationError where they do not pair."""
    from vlaeval_hpc.results.comparison import compare
    from vlaeval_hpc.results.comparisontable import print_comparison
    from vlaeval_hpc.results.outcomes import run_outcomes

    console = _console(width)
    names = [run.root.name for run in runs]
    if len(set(names)) < len(names):
        names = [str(run.root) for run in runs]
    found = compare([run_outcomes(name, run) for name, run in zip(names, runs, strict=True)])
    print_comparison(console, found, flips=found.rate)
    return _said(console)


def episode_text(run: RunDirectory, task: str, episode: Mapping[str, Any]) -> str:
    """An episode's record, its failure, and what the log says of it."""
    from vlaeval_hpc.results.excerpts import excerpts

    record = {k: v for k, v in episode.items() if k not in ("failure_detail", *RECORDED)}
    lines = [f"{key}: {json.dumps(value)}" for key, value in record.items()]
    for path in (run.root / str(episode[key]) for key in RECORDED if episode.get(key)):
        lines.append(f"{path}" if path.is_file() else f"{path}, which is gone")
    if detail := str(episode.get("failure_detail") or ""):
        lines += ["", *detail.splitlines()]
    key = (task, episode["episode_id"])
    told = excerpts(run, {key}).get(key, ["no log tells of this episode"])
    return "\n".join([*lines, "", *told])


def provenance_text(run: RunDirectory) -> str:
    """provenance.json and config.yaml."""
    parts = []
    for path in (run.provenance, run.config):
        try:
            parts.append(f"{path.name}\n\n{path.read_text()}")
        except OSError as error:
            parts.append(f"{path.name}: {error.strerror}")
    return "\n".join(parts)


def _console(width: int) -> Console:
    return Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None, highlight=False)


def _said(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()
