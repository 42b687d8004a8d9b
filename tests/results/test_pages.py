"""The pages, in a real headless browser: what is on them, and that they need nothing but themselves."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.results.made import made_plan, made_record, made_run, write_journal
from vlaeval_hpc.cli.report import main
from vlaeval_hpc.results.export import merge_into_files
from vlaeval_hpc.results.pages.plots import histogram, positions, strip
from vlaeval_hpc.results.pages.run import ranges
from vlaeval_hpc.results.sweep import Point, Points, SweepFolder, write_sweep
from vlaeval_hpc.run.directory import RunDirectory

WIDTHS = (390, 1200)
EVIL = "<script>document.title='evil'</script> & \"task\""
MARKUP = '</pre><img src="http://example.invalid/x.png" onerror="document.title=1">'


def some_run(root: Path, won: int, failure: str | None = None, checkpoint: int = 300) -> RunDirectory:
    """A task of a well-known name and one of a bad one, 8 episodes each."""
    plan = made_plan(shards=1, tasks=2, episodes=8, metrics={"success": "mean", "distance": "mean"})
    items = [item._replace(task=EVIL) if item.task == "task-1" else item for item in plan.items]
    plan = replace(plan, items=items, model={"name": "pilot", "checkpoint": checkpoint})
    run = made_run(root, plan)
    records = []
    for item in items:
        success = item.episode < won
        records.append(made_record(item, metrics={"success": success, "distance": 0.5 / (item.episode + 1)}))
    for record in records[2:5]:
        record["video"] = f"videos/task-0/{record['episode_id']:04}.mp4"
        (root / "videos" / "task-0").mkdir(parents=True, exist_ok=True)
        if record["episode_id"] != 4:  # one has been removed since
            (root / record["video"]).write_bytes(b"mp4")
    if failure:
        records[3] = made_record(
            items[3], failure=failure, failure_detail=f"Traceback:\n{MARKUP}", video=records[3]["video"]
        )
    write_journal(run, plan, 0, records)
    (run.logs / "shard-0.log").write_text(
        f"[2/16] task-0 episode 2: won\nGL said {MARKUP}\n[3/16] task-0 episode 3: broke\n"
    )
    run.config.write_text(f"model:\n  name: pilot\n  checkpoint: {checkpoint}\nresults: {root}\n")
    image = {"image": "/images/toy.sif", "source": "toy.def", "digest": "sha256:0123"}
    told = {"command": f"python -m vlaeval_hpc {MARKUP}", "vlaeval_hpc": "0.1.0", "packages": {"numpy": "2.0"}}
    environments = {"benchmark": image, "model": {"python": "/p", "packages": ["torch-2.4", f"numpy-{checkpoint}"]}}
    hashes = {f"step-{checkpoint}.npz": "ab12"}
    run.provenance.write_text(json.dumps({**told, "environments": environments, "checkpoint": hashes}))
    merge_into_files(run)
    return run


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # Debian's, which scripts/setup installs; elsewhere the one of `playwright install chromium-headless-shell`.
    found = shutil.which("chromium-headless-shell")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    root = folder / "my results # 1"
    first = some_run(root / "a", won=2, failure="policy_error")
    second = some_run(root / "b", won=7, checkpoint=3000)
    sweep = SweepFolder(root / "sweeps" / "steps")
    points = [
        Point("0", [], 0, sweep.link(first)),
        Point("3000", [], 3000, sweep.link(second)),
        Point("9000", [], 9000, None, f"no such checkpoint {MARKUP}"),
    ]
    sweep.save(Points(varied=["model.checkpoint"], points=points))
    write_sweep(sweep)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLAEVAL_HPC_CACHE", str(folder / "cache"))
        assert main([str(root)]) == 0
    return root


class Shown:
    """A page in the browser, and what it said and asked for."""

    def __init__(self, browser: Browser, path: Path, width: int, scheme: str = "light") -> None:
        self.page: Page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())

    def check(self, path: Path, width: int) -> None:
        """Nothing was said, nothing but the file asked for, nothing is too wide, no markup has come alive."""
        assert self.said == [] and self.asked == [path.as_uri()]
        assert self.page.evaluate("document.documentElement.scrollWidth") <= width
        assert self.page.evaluate("document.images.length") == 0 and "evil" not in self.page.title()

    def count(self, selector: str) -> int:
        return self.page.locator(selector).count()

    def text(self, selector: str) -> str:
        return self.page.locator(selector).first.inner_text()

    def background(self) -> str:
        found: str = self.page.evaluate("getComputedStyle(document.body).backgroundColor")
        return found


@pytest.mark.parametrize("width", WIDTHS)
def test_a_runs_page(browser: Browser, root: Path, width: int) -> None:
    path = root / "a" / "report.html"
    shown = Shown(browser, path, width)
    assert shown.text("h1").split() == ["a", "done"]
    assert "25.0 %" in shown.text("#figures") and "[10.2, 49.5]" in shown.text("#figures")
    assert "of 16 planned" in shown.text("#figures") and "mean distance" in shown.text("#figures")
    assert shown.count("#tasks svg.bar line") == 2 and shown.count("#tasks svg.strip") == 2
    # Sorted, the task of the bad name comes first.
    assert EVIL in shown.text("#tasks tr:has(svg) >> nth=0") and shown.count("#tasks .strip path.broke") == 1
    lost = shown.page.locator("#tasks details:not(.films)").nth(1)
    lost.locator("summary").click()
    assert lost.inner_text().split("\n")[-1] == "2, 4-7"
    assert shown.count("#durations figure") == 1 and shown.count("#durations rect") > 3
    failure = shown.page.locator("#failures ~ details").first
    assert "policy_error task-0 episode 3" in failure.inner_text().replace("\n", " ")
    failure.locator("summary").click()
    assert f"Traceback:\n{MARKUP}" in failure.inner_text() and f"GL said {MARKUP}" in failure.inner_text()
    assert "episode 2" not in failure.inner_text()
    assert failure.locator("a").get_attribute("href") == "videos/task-0/0003.mp4"
    assert shown.page.locator("#tasks .films summary").inner_text() == "2 videos"  # the third is gone
    for words in ("sha256:0123", "/images/toy.sif", "ab12", "0.1.0", "numpy 2.0", MARKUP):
        assert words in shown.text("#provenance")
    shown.page.locator("#config summary").click()
    assert "checkpoint: 300" in shown.text("#config pre")
    shown.check(path, width)


@pytest.mark.parametrize("width", WIDTHS)
def test_against_another_run(browser: Browser, root: Path, width: int, tmp_path: Path) -> None:
    path = tmp_path / "b.html"
    assert main([str(root / "b"), "--against", str(root / "a"), "-o", str(path)]) == 0
    shown = Shown(browser, path, width)
    assert "Against a" in shown.text("#against") and "better: +62.5 points" in shown.text("#against ~ p")
    differs = shown.text("#differences").replace("\n", " ")
    assert "model.checkpoint" in differs and "3000" in differs and "packages.numpy" in differs
    assert "torch" not in differs and "results" not in differs
    hrefs = [unquote(a.get_attribute("href") or "") for a in shown.page.locator("details.films > table a").all()]
    videos = [root / r / f"videos/task-0/000{n}.mp4" for n in (2, 3) for r in "ab"]
    assert [(tmp_path / href).resolve() for href in hrefs] == videos
    shown.check(path, width)
    other = made_run(tmp_path / "other", replace(made_plan(1), name="else"))
    assert main([str(root / "b"), "--against", str(other.root), "-o", str(path)]) == 0
    assert "does not pair" in Shown(browser, path, width).text("#against ~ p")


@pytest.mark.parametrize("width", WIDTHS)
def test_a_sweeps_page(browser: Browser, root: Path, width: int) -> None:
    path = root / "sweeps" / "steps" / "sweep.html"
    shown = Shown(browser, path, width)
    assert "Best: 3000" in shown.text("#best")
    assert shown.count("#pooled .dot") == 2 and shown.count("#pooled g > line:not(.dot)") == 2
    assert shown.page.locator("#pooled .x span").all_inner_texts() == ["0", "3000", "9000"]
    assert shown.count("#tasks .curve") == 2 and EVIL in shown.text("#tasks h3")
    assert "no such checkpoint" in shown.text("#points tr.open") and "resume" in shown.text("#points tr.open pre")
    assert shown.count("#points .tag.failed") == 1 and shown.count("#neighbours > tbody > tr:not(.films)") == 1
    films = shown.page.locator("#neighbours tr.films details")
    films.locator("summary").click()
    assert films.locator("tbody td").all_inner_texts()[:4] == ["task-0", "2", "gained", "0 3000"]
    assert films.locator("a").first.get_attribute("href") == "../../a/videos/task-0/0002.mp4"
    shown.check(path, width)
    shown.page.locator("#points a").first.click()
    assert shown.page.url == (root / "a" / "report.html").as_uri()


@pytest.mark.parametrize("width", WIDTHS)
def test_a_roots_page(browser: Browser, root: Path, width: int) -> None:
    path = root / "index.html"
    shown = Shown(browser, path, width)
    assert shown.count("#runs tbody tr:visible") == 2 and "25.0 % [10.2, 49.5]" in shown.text("#runs tbody")
    shown.page.locator("#filter").fill("DONE 25.0")
    assert shown.count("#runs tbody tr:visible") == 1
    shown.page.locator("#filter").fill("nothing")
    assert shown.count("#runs tbody tr:visible") == 0
    shown.page.locator("#filter").fill("")
    shown.check(path, width)
    shown.page.locator("#sweeps a").click()
    assert shown.page.url == (root / "sweeps" / "steps" / "sweep.html").as_uri()


def test_dark_light_and_printed(browser: Browser, root: Path) -> None:
    path = root / "a" / "report.html"
    light, dark = Shown(browser, path, 1200), Shown(browser, path, 1200, "dark")
    assert (light.background(), dark.background()) == ("rgb(255, 255, 255)", "rgb(20, 23, 27)")
    dark.page.emulate_media(media="print")
    assert dark.background() == "rgb(255, 255, 255)"


def test_a_run_without_episodes(browser: Browser, tmp_path: Path) -> None:
    run = made_run(tmp_path / "r", made_plan(1))
    assert main([str(run.root)]) == 0
    shown = Shown(browser, run.root / "report.html", 390)
    assert shown.text("h1").split() == ["r", "partial"] and "PARTIAL" in shown.text("body")
    shown.check(run.root / "report.html", 390)


def test_ranges() -> None:
    assert ranges([5, 1, 2, 3, 9]) == "1-3, 5, 9" and ranges([]) == ""


def test_where_points_stand() -> None:
    assert positions([None, 1, 2]) == [0, 0.5, 1] and positions([7]) == [0] and positions([]) == []
    assert positions([10, 20, 40]) == pytest.approx([0, 1 / 3, 1])
    assert positions([0, 30, 300, 3000]) == pytest.approx([0, 0.193, 0.596, 1], abs=1e-3)
    assert positions([5, 5]) == [0, 1]


def test_marks_hold_every_episode() -> None:
    found = strip(["won", "lost"] * 60 + ["broke"])
    assert {kind: path.count("M") for kind, path in found.paths.items()} == {"won": 60, "lost": 60, "broke": 1}
    bars = histogram([1.0, 1.0, 2.0, 5.0])
    assert bars is not None and [bar.height for bar in bars.bars] == [1.0, 0.5, 0.5]
    assert histogram([3.0, 3.0]) is None and histogram([]) is None
