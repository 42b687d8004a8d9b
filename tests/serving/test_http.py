"""Who may ask, and what plain GET requests are answered."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.serving.servers import PATIENCE, TOKEN, Server
from vlaeval_hpc.wire import messages as wire
from vlaeval_hpc.wire.messages import Message


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    started = Server(tmp_path_factory.mktemp("http") / "server.log").wait_ready()
    yield started
    started.kill()


@pytest.mark.parametrize("path", ["/", "/config", "/config?max_batch_size=8", "/metrics", "/elsewhere"])
def test_nothing_but_health_is_told_without_the_token(server: Server, path: str) -> None:
    join = "&" if "?" in path else "?"
    before = server.metric("refused_total")
    for token in (None, "wrong", "", TOKEN + "x", TOKEN[:-1], "\xff\xfe"):
        assert server.get(path, token=token)[0] == 401
    for wrong in ("token=wrong", "token=", "token=" + TOKEN.upper(), "token=%ff", "tok=" + TOKEN):
        assert server.get(f"{path}{join}{wrong}", token=None)[0] == 401
    # A header that is there decides, and one of them.
    assert server.get(f"{path}{join}token={TOKEN}", token="wrong")[0] == 401
    assert server.get(f"{path}{join}token={TOKEN}", token=None)[0] != 401
    assert server.get(path)[0] != 401
    assert server.metric("refused_total") == before + 12


@pytest.mark.parametrize("how", ["header", "query", "lower case", "basic and query"])
def test_a_session_needs_the_token(server: Server, how: str) -> None:
    url, headers = {
        "header": ("/", {"Authorization": f"Bearer {TOKEN}"}),
        "query": (f"/?token={TOKEN}", {}),
        "lower case": ("/", {"authorization": f"bearer {TOKEN}"}),
        "basic and query": (f"/any/path?token={TOKEN}", {"Authorization": "Basic eDp5"}),
    }[how]
    with connect(server.url + url, additional_headers=headers) as socket_:
        socket_.send(Message(wire.HELLO, {}, 4).pack())
        answer = socket_.recv(timeout=PATIENCE)
        assert isinstance(answer, bytes)
        assert Message.unpack(answer).seq == 4
    for bad in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}):
        with pytest.raises(InvalidStatus) as caught:
            connect(server.url, additional_headers=bad)
        assert caught.value.response.status_code == 401


def test_config_is_read_and_set(server: Server) -> None:
    found = json.loads(server.get("/config")[1])
    assert found["applied"] == {}
    assert found["config"].keys() == {"max_batch_size", "max_wait_time"}
    status, body, kind = server.get("/config?max_batch_size=3&max_wait_time=0.5")
    assert (status, kind) == (200, "application/json")
    assert json.loads(body)["applied"] == {"max_batch_size": 3, "max_wait_time": 0.5}
    assert json.loads(server.get("/config")[1])["config"] == {"max_batch_size": 3, "max_wait_time": 0.5}
    server.get("/config?max_batch_size=auto&max_wait_time=auto")
    assert json.loads(server.get("/config")[1])["config"] == {"max_batch_size": None, "max_wait_time": None}


@pytest.mark.parametrize(
    "query",
    [
        "max_batch_size=0", "max_batch_size=-1", "max_batch_size=99999", "max_batch_size=1.5", "max_batch_size=x",
        "max_batch_size=" + "9" * 5000, "max_wait_time=-1", "max_wait_time=nan", "max_wait_time=inf",
        "max_wait_time=1e9", "max_wait_time=soon", "batch=2", "%ff=%ff", "max_batch_size[]=1",
    ],
    ids=lambda q: q[:30],
)  # fmt: skip
def test_nonsense_is_refused_and_nothing_of_it_applied(server: Server, query: str) -> None:
    before = server.get("/config")[1]
    valid = "max_batch_size=5" if "wait" in query else "max_wait_time=0.7"
    for together in (query, f"{valid}&{query}", f"{query}&{valid}"):
        status, body, _ = server.get(f"/config?{together}")
        assert status == 422, together
        assert json.loads(body)["errors"]
    assert server.get("/config")[1] == before
