"""`watch FOLDER [key=value ...]`: evaluate a training run's checkpoints as they become complete."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from vlaeval_hpc.cli import sweep
from vlaeval_hpc.cli.arguments import Parser
from vlaeval_hpc.cli.evaluate import options
from vlaeval_hpc.cli.start import say
from vlaeval_hpc.config.composition import for_each
from vlaeval_hpc.config.schema import Config
from vlaeval_hpc.config.sweep import CHECKPOINT, Axis, in_order, training_steps
from vlaeval_hpc.errors import ConfigurationError, InfrastructureError, VlaevalError
from vlaeval_hpc.launch import graph
from vlaeval_hpc.launch import sweep as job
from vlaeval_hpc.launch.cache import digest
from vlaeval_hpc.launch.evaluation import Preparation
from vlaeval_hpc.launch.jobs import read_submissions
from vlaeval_hpc.results.rundir import current_merge, is_open_run
from vlaeval_hpc.results.sweep import Point, Points, SweepFolder, write_sweep
from vlaeval_hpc.run.directory import RunDirectory
from vlaeval_hpc.run.lock import Lock

BROKEN_OFF = 60.0  # seconds after which a submission without a merge is one that nobody goes on with

Signature = frozenset[tuple[str, int, int]]
"""Name in the checkpoint, size and time of each of its files."""


@dataclass
class Watched:
    """Where checkpoints appear, which of what is there are some, and what says that one is complete: a file in it or
    beside it; None: that it has not changed since the last look."""

    folder: Path
    pattern: str
    ready: str | None

    def there(self) -> dict[str, Path]:
        """Checkpoints by their name in the folder, in the order of training; none twice by a link to another."""
        tail = [part for part in Path(self.pattern).parts if not set(part) & set("*?[")]
        found = {}
        for path in self.folder.glob(self.pattern):
            parts = path.relative_to(self.folder).parts
            hidden = any(part.startswith(".") or part.endswith(".tmp") for part in parts)
            linked = self.folder.resolve() in path.resolve().parents and path.resolve() != self.folder.resolve() / Path(
                *parts
            )
            marker = self.ready is not None and path.name.endswith(self.ready)
            if not (hidden or linked or marker):
                kept = parts[: -len(tail)] if tail and parts[-len(tail) :] == tuple(tail) else parts
                found["/".join(kept) or path.name] = path
        return {name: found[name] for name in in_order(sorted(found))}

    def complete(self, path: Path, now: Signature, before: Signature | None) -> bool:
        """Whether nobody writes it any more."""
        if self.ready is None:
            return bool(now) and now == before
        return (path / self.ready).exists() or path.with_name(path.name + self.ready).exists()


def main(argv: list[str]) -> int:
    """Exit status 0 when every checkpoint that was there is evaluated, or its jobs are submitted."""
    words = [a for a in argv if "=" in a and not a.startswith("-")]
    parser = Parser("watch")
    parser.add_argument("folder", metavar="FOLDER")
    parser.add_argument("--every", type=float, default=30.0)
    parser.add_argument("--until-idle", type=float)
    parser.add_argument("--ready", metavar="NAME")
    parser.add_argument("--pattern", default="*")
    parser.add_argument("--config-dir")
    arguments = parser.parse_args([a for a in argv if a not in words])
    watched = Watched(Path(arguments.folder), arguments.pattern, arguments.ready)
    if any(w.partition("=")[0] == CHECKPOINT for w in words):
        raise ConfigurationError(f"watch: {CHECKPOINT}= is what it finds in {watched.folder}")
    if not watched.folder.is_dir():
        raise ConfigurationError(f"watch: {watched.folder}: no such folder")
    if arguments.config_dir:
        words = ["--config-dir", arguments.config_dir, *words]
    return _Watch(watched, words, Console(highlight=False)).run(arguments.every, arguments.until_idle)


class _Watch:
    """One sweep folder that grows. What was evaluated, its files tell; that a checkpoint was tried and failed is
    remembered only so long as this process lives, and while the checkpoint stays as it is."""

    def __init__(self, watched: Watched, words: Sequence[str], console: Console) -> None:
        self._watched = watched
        self._words = list(words)
        self._console = console
        config = self._composed(watched.folder)
        if config.sweep.stop != "never":
            raise ConfigurationError(f"watch: sweep.stop={config.sweep.stop}: valid: never: points come one by one")
        varied = [Axis(CHECKPOINT, str(watched.folder.resolve() / watched.pattern))]
        name = config.run or job.sweep_name(config, varied)
        self._folder = SweepFolder(Path(config.results) / "sweeps" / name)
        self._seen: dict[str, Signature] = {}
        self._tried: dict[str, Signature] = {}
        self._awaited: set[str] = set()
        self._status = 0

    def run(self, every: float, until_idle: float | None) -> int:
        """Look again and again; the exit status."""
        self._folder.save(self._points())
        try:
            lock = Lock(self._folder.root / "watch.lock")
            lock.acquire()
        except InfrastructureError as error:
            raise ConfigurationError(f"watch: {self._folder.root} is watched already: {error}") from error
        try:
            say(self._console, f"watching {self._watched.folder}, into {self._folder.root}")
            if self._points().points:
                write_sweep(self._folder)  # whoever watched before may have died over it
            idle_since = time.monotonic()
            while until_idle is None or time.monotonic() - idle_since < until_idle:
                if self._look():
                    idle_since = time.monotonic()
                time.sleep(every)
        except KeyboardInterrupt:
            say(self._console, "stopped; the same again goes on where this was")
        finally:
            lock.release()
        return self._status

    def _look(self) -> bool:
        """Evaluate what has become complete; whether anything is new or has changed since the last look."""
        changed = self._arrived()
        for name, path in self._watched.there().items():
            now = signature(path)
            before = self._seen.get(name)
            self._seen[name] = now
            changed = changed or now != before
            if self._watched.complete(path, now, before) and self._tried.get(name) != now:
                self._tried[name] = now
                content = digest(sorted(now))
                if self._is_open(name, content):
                    self._evaluate(name, path, content)
                    changed = True
        return changed

    def _evaluate(self, name: str, path: Path, content: str) -> None:
        points = self._points()
        point = Point(name, self._overrides(path), content=content)
        try:
            member = sweep.Member(point, replace(self._composed(path), run=None))
            points.add(point)
            names = [p.label for p in points.points]
            for one, step in zip(points.points, training_steps(names), strict=True):
                one.step = step
            points.in_order()
            with Preparation(lambda line: say(self._console, line)) as preparation:
                sweep.prepare([member], preparation, self._console)
                self._status |= sweep.go(self._folder, points, [member], self._console)
        except VlaevalError as error:
            if error.exit_code > 128:
                raise  # a signal
            self._status = 1
            say(self._console, f"error: {name}: {error}")

    def _is_open(self, name: str, content: str) -> bool:
        """Whether anything of a checkpoint's evaluation is neither finished nor on its way. One that was written again
        is another run, unless it holds what it held: its run's name, and whether that is finished, will tell."""
        point = next((p for p in self._points().points if p.label == name), None)
        run = self._folder.run(point) if point else None
        if point is None or run is None or not run.plan.exists() or point.content != content:
            return True
        try:
            if not is_open_run(current_merge(run)):
                return False
            return not self._on_its_way(name, run)
        except VlaevalError as error:
            say(self._console, f"error: {name}: {error}")
            self._tried.pop(name, None)  # looked at again: nobody knows what became of it
            return False

    def _on_its_way(self, name: str, run: RunDirectory) -> bool:
        """Whether jobs of an earlier watch's will finish it, or must first be gone since their submission broke off."""
        submissions = read_submissions(run)
        if not (submissions and graph.active(submissions)):
            return False
        if submissions[-1].ids("merge"):
            self._awaited.add(name)
            return True
        self._tried.pop(name, None)  # looked at again
        if time.time() - submissions[-1].submitted_at > BROKEN_OFF:
            cancelled = ", ".join(graph.cancel(submissions))
            say(self._console, f"{name}: whoever submitted its jobs died over it: cancelled {cancelled}")
        return True

    def _arrived(self) -> bool:
        """Show what an earlier watch's jobs have finished: the job that would was perhaps never submitted."""
        runs = {point.label: self._folder.run(point) for point in self._points().points if point.label in self._awaited}
        done = {
            name
            for name, run in runs.items()
            if run is not None and run.merged.exists() and not is_open_run(current_merge(run))
        }
        self._awaited -= done
        if done:
            write_sweep(self._folder)
        return bool(done)

    def _points(self) -> Points:
        return self._folder.load() if self._folder.file.exists() else Points([CHECKPOINT], options(self._words))

    def _overrides(self, path: Path) -> list[str]:
        quoted = str(path.absolute()).replace("'", "\\'")
        return [*(w for w in self._words if "=" in w), f"{CHECKPOINT}='{quoted}'"]

    def _composed(self, path: Path) -> Config:
        found: list[Config] = []
        for_each([*options(self._words), *self._overrides(path)], lambda config, *_: found.append(config))
        return found[0]


def signature(path: Path) -> Signature:
    """Empty where nothing is there, or it changes as one looks."""
    try:
        files = [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]
        return frozenset((str(f.relative_to(path)), f.stat().st_size, f.stat().st_mtime_ns) for f in files)
    except OSError:
        return frozenset()
