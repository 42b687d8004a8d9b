"""LIBERO and LIBERO-Pro: the conventions, and episodes bit for bit those of vla-eval's adapter.

The simulator runs in environments of its own, by libero_checks.py, two processes at a time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.benchmarks.checks import OSMESA, Answer, Ask, checks

CHECKS = Path(__file__).with_name("libero_checks.py")
REPOSITORY = CHECKS.parents[2]
STEPS, CHUNK = 40, 8

# In an order that vla-eval, a fresh process for each, does not have: a later start first, two tasks of another suite in
# between, and a task come back to. libero_10's 3 has a drawer open from the start, which makes LIBERO add a sampler at
# every reset; libero_goal_task's 0 is a variant of LIBERO-Pro.
EPISODES = [
    ("libero_10", 3, 5),
    ("libero_spatial", 4, 49),
    ("libero_spatial", 4, 0),
    ("libero_goal_task", 0, 2),
    ("libero_10", 3, 2),
    ("libero_10", 3, 5),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def ask(home: Path) -> Iterator[Ask]:
    """Start a check; what is given back waits for its answer."""
    drop = ("LIBERO_CONFIG_PATH", "MPLCONFIGDIR", "NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")
    with checks(CHECKS, {**OSMESA, "HOME": str(home)}, drop) as found:
        yield found


@pytest.fixture(scope="module")
def answers(ask: Ask, libero_python: object) -> dict[str, Answer]:
    """Everything asked of our own environment, under way at once."""
    episodes = ask(libero_python, "ours", json.dumps(EPISODES), STEPS, CHUNK)
    return {"ours": episodes} | {verb: ask(libero_python, verb) for verb in ("views", "rules", "tasks", "no_osmesa")}


@pytest.fixture(scope="module")
def peers(
    answers: dict[str, Answer],
    ask: Ask,
    libero_vla_eval_python: object,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Answer]:
    """vla-eval's adapter, one fresh process an episode; it writes to its home folder."""
    own_home = tmp_path_factory.mktemp("peer")
    return {
        "/".join(map(str, episode)): ask(libero_vla_eval_python, "peer", *episode, STEPS, CHUNK, HOME=str(own_home))
        for episode in dict.fromkeys(EPISODES)
    }


def test_tasks(answers: dict[str, Answer]) -> None:
    found = answers["tasks"]()
    suites = {suite: task for suite, (task, _) in found["tasks"].items()}
    assert len(suites) == 21
    assert {suite: len(tasks) for suite, tasks in suites.items() if len(tasks) != 10} == {"libero_90": 90}
    for suite, tasks in suites.items():
        assert len({task["name"] for task in tasks}) == len(tasks)
        assert [task["task_id"] for task in tasks] == list(range(len(tasks)))
        assert {task["suite"] for task in tasks} == {suite}
    first = "pick up the black bowl between the plate and the ramekin and place it on the plate"
    assert suites["libero_spatial"][0] == {
        "name": first,
        "instruction": first,
        "suite": "libero_spatial",
        "task_id": 0,
    }
    # 16 of libero_90's 90 sentences are said again in another scene: those 28 tasks go by the scene's name.
    named = [task for task in suites["libero_90"] if task["name"] != task["instruction"]]
    assert len(named) == 28 and all("_SCENE" in task["name"] for task in named)
    assert len({task["instruction"] for task in suites["libero_90"]}) == 74


def test_instructions_of_the_definition(answers: dict[str, Answer]) -> None:
    found = answers["tasks"]()
    task, bddl = found["tasks"]["libero_goal_lan"]
    assert [t["instruction"] for t in bddl] == found["libero_goal_lan"]  # as LIBERO's own parser reads them
    assert [t["name"] for t in bddl] == [t["name"] for t in task]
    # The file names, which the default follows, do not hold what these variants change.
    for base in ("libero_spatial", "libero_object", "libero_goal", "libero_10"):
        for kind in ("lan", "task"):
            plain, changed = found["tasks"][f"{base}_{kind}"]
            assert [t["instruction"] for t in plain] == [t["instruction"] for t in found["tasks"][base][0]]
            assert all(p["instruction"] != c["instruction"] for p, c in zip(plain, changed, strict=True))


def test_suites_without_files_are_refused(answers: dict[str, Answer]) -> None:
    from vlaeval_hpc.benchmarks.libero import LIBERO
    from vlaeval_hpc.errors import ConfigurationError

    registered = answers["tasks"]()["without_files"]
    assert len(registered) == 20
    for suite in registered:
        with pytest.raises(ConfigurationError, match=r"no files: valid: libero_spatial, .*libero_10_task$"):
            LIBERO(seed=7, suite=suite)
    with pytest.raises(ConfigurationError, match="unknown LIBERO suite 'libero_spatal': did you mean libero_spatial"):
        LIBERO(seed=7, suite="libero_spatal")
    with pytest.raises(ConfigurationError, match="valid: bddl, task"):
        LIBERO(seed=7, instruction="filename")


def test_most_steps() -> None:
    from vlaeval_hpc.benchmarks.libero import LIBERO

    expected = {"spatial": 220, "object_task": 280, "goal_lan": 300, "10": 520, "10_swap": 520, "90": 400}
    assert {name: LIBERO(seed=7, suite=f"libero_{name}").max_steps for name in expected} == expected


def test_rules(answers: dict[str, Answer]) -> None:
    found = answers["rules"]()
    assert found["instruction"] == "turn on the stove"
    assert found["episode_50"].startswith("ConfigurationError: episode 50: 'turn on the stove' of libero_goal has 50 ")
    assert found["episode_-1"].startswith("ConfigurationError: episode -1")
    assert found["camera"].startswith("ConfigurationError: LIBERO gives no 'sideview': valid: agentview, wrist, state")
    assert found["observe_unlooked"].startswith("RuntimeError")
    assert found["grip -1.0"] == found["grip -0.01"] != found["grip 0.0"] == found["grip 0.01"] == found["grip 1.0"]
    assert found["before"] == {"success": False}
    assert found["done"] is found["done_again"] is True
    assert found["after"] == {"success": True} and found["ended"]
    assert found["anew"] == {"success": False}


def test_only_what_is_looked_at_is_rendered(answers: dict[str, Answer]) -> None:
    found = answers["views"]()
    eager, lazy, wrist, blind = (found[name] for name in ("eager", "lazy", "wrist", "blind"))
    assert lazy["looks"] == eager["looks"]
    assert len({found[name]["physics"] for name in found}) == 1
    for one, all_ in zip(wrist["looks"], eager["looks"], strict=True):
        assert one["images"] == {"wrist": all_["images"]["wrist"]}
        assert one["states"] is one["task_description"] is None
    assert [look["states"] for look in blind["looks"]] == [look["states"] for look in eager["looks"]]
    assert not any(look["images"] for look in blind["looks"]) and not blind["gl"]
    # Two cameras at the start and 16 steps; at the start and two looks; one camera at these; none.
    assert [found[name]["drawn"] for name in ("eager", "lazy", "wrist", "blind")] == [34, 6, 3, 0]
    # The wrist sees the table, and of the arm little more than the hand.
    assert 0 < wrist["geoms"] < 0.6 * 3 * wrist["all"]


def test_episodes_are_those_of_vla_eval(answers: dict[str, Answer], peers: dict[str, Answer]) -> None:
    ours = answers["ours"]()
    theirs = {key: answer() for key, answer in peers.items()}
    assert len(ours) == len(theirs) == 5
    for key, episode in theirs.items():
        assert len(episode["looks"]) == 1 + STEPS // CHUNK
        for step, (look, peer) in enumerate(zip(ours[key]["looks"], episode["looks"], strict=True)):
            assert look == peer, f"{key}, look {step}"
            assert look["shapes"] == [[256, 256, 3, "uint8"]] * 2
            assert min(look["spread"]) > 10 and look["finite"]
        assert ours[key]["physics"] == episode["physics"]
        assert ours[key]["success"] == episode["success"]


def test_nothing_is_written_home(answers: dict[str, Answer], home: Path) -> None:
    for answer in answers.values():
        answer()
    assert list(home.rglob("*")) == []


def test_missing_osmesa_is_named(answers: dict[str, Answer]) -> None:
    error = answers["no_osmesa"]()["error"]
    assert error.startswith("ConfigurationError") and "libosmesa6" in error and "\n" not in error


def test_original_repository_asks_nothing(tmp_path: Path) -> None:
    """The original, found by its missing PyPI sibling, reads its folders from a file and asks on stdin without one."""
    package = tmp_path / "libero" / "libero"
    (package / "benchmark").mkdir(parents=True)
    (package / "bddl_files" / "libero_goal").mkdir(parents=True)
    (package / "bddl_files" / "libero_goal" / "t.bddl").write_text("(define (:language Open\n the Drawer))")
    (package / "__init__.py").write_text(
        "import json, os\n"
        "path = os.path.join(os.environ.get('LIBERO_CONFIG_PATH', os.path.expanduser('~/.libero')), 'config.yaml')\n"
        "if not os.path.exists(path):\n"
        "    input('Do you want to specify a custom path? ')\n"
        "def get_libero_path(key):\n"
        "    return json.load(open(path))[key]\n"
    )
    (package / "benchmark" / "__init__.py").write_text(
        "import types\n"
        "class Suite:\n"
        "    tasks = [types.SimpleNamespace(name='t', language='open drawer', problem_folder='libero_goal', "
        "bddl_file='t.bddl')]\n"
        "    n_tasks = 1\n"
        "    get_task = tasks.__getitem__\n"
        "def get_benchmark_dict():\n"
        "    return {'libero_goal': Suite}\n"
    )
    code = (
        "from vlaeval_hpc.benchmarks.libero import LIBERO\n"
        "print([t['instruction'] for t in LIBERO(seed=7, suite='libero_goal', instruction='bddl').tasks()])\n"
        "try: LIBERO(seed=7, suite='libero_10').tasks()\n"
        "except Exception as error: print(error)\n"
    )
    home = tmp_path / "home"
    home.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{tmp_path}:{REPOSITORY}",
            "HOME": str(home),
            "TMPDIR": str(tmp_path),
        },
    )
    assert done.returncode == 0, done.stderr
    words, refusal = done.stdout.splitlines()
    assert words == "['open the drawer']"
    assert refusal.endswith("has no suite 'libero_10'")
    assert list(home.iterdir()) == []
