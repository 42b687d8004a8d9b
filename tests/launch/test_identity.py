"""What makes a run another one: which policy is asked, not where it listens or how long it is waited for."""

from __future__ import annotations

from typing import Any

from vlaeval_hpc.config.composition import for_each
from vlaeval_hpc.config.schema import Config
from vlaeval_hpc.launch.planning import make_plan

OPENPI = ("model=openpi", "model.params.dim=7", "model.params.cameras={image: agentview}")
BENCHMARK: dict[str, Any] = {
    "tasks": [{"name": "t"}],
    "metrics": {"success": "mean"},
    "max_steps": 10,
    "episodes_per_task": 1,
    "max_episodes": None,
    "action_spec": {},
    "observation_spec": {},
}
SPECS: dict[str, Any] = {"action_spec": {}, "observation_spec": {}}
POLICY: dict[str, Any] = {**SPECS, "checkpoint": {}, "files": {}, "connection": ["timeout", "url"]}


def identity(*words: str, policy: dict[str, Any] | None = POLICY) -> str:
    found: list[Config] = []
    for_each(["benchmark=metaworld", *words], lambda config, *_: found.append(config))
    return make_plan(found[0], BENCHMARK, policy).run


def openpi(url: str, *more: str) -> str:
    return identity(*OPENPI, f"model.params.url=ws://{url}", *more)


def test_a_server_that_has_a_name_may_move() -> None:
    first = openpi("a:8000", "model.checkpoint=pi05-80k")
    assert first == openpi("b:9000", "model.checkpoint=pi05-80k", "model.params.timeout=7")
    assert first != openpi("a:8000", "model.checkpoint=pi05-90k")
    assert first != openpi("a:8000", "model.checkpoint=pi05-80k", "model.params.state_dim=8")


def test_of_a_server_without_a_name_the_url_tells() -> None:
    assert openpi("a:8000") != openpi("b:8000")
    assert openpi("a:8000") == openpi("a:8000", "model.params.timeout=7")


def test_a_server_of_which_only_the_url_is_known() -> None:
    def remote(*words: str) -> str:
        return identity("model=remote", *words, policy=None)

    assert remote("server.url=ws://a:8000") != remote("server.url=ws://b:8000")
    named = [remote(f"server.url=ws://{host}", "model.checkpoint=oft-80k") for host in ("a:8000", "b:8000")]
    assert named[0] == named[1] != remote("server.url=ws://a:8000", "model.checkpoint=oft-90k")
    # A model's own checkpoint says nothing of what a server has that was started by somebody else.
    assert identity("server.url=ws://a:8000", policy=None) != identity("server.url=ws://b:8000", policy=None)


def test_a_parameter_of_that_name_counts_where_it_is_no_connection() -> None:
    ours = {**POLICY, "connection": []}
    first, other = (identity("model=bc", f"+model.params.url={url}", policy=ours) for url in "xy")
    assert first != other
