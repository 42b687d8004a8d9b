"""Our client with servers that are old, broken, gone, or not what they seem."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

from tests.conftest import Command
from tests.peer.test_vla_eval_server import CONF
from tests.serving.conftest import Start
from tests.serving.servers import TOKEN
from vlaeval_hpc.errors import ConfigurationError, EpisodeError
from vlaeval_hpc.run.directory import RunDirectory
from vlaeval_hpc.run.rendezvous import Rendezvous
from vlaeval_hpc.wire import messages as wire
from vlaeval_hpc.wire.messages import Message
from vlaeval_hpc.wire.specs import RGB, Spec
from vlaeval_hpc.worker.client import Client, ServerGone, ServerLost, server_specs

Answer = Callable[[ServerConnection, Message], None]
HELLO = wire.hello(model_server="odd", capabilities={})
PATIENCE = 30.0


class Odd:
    """A server that greets with `hello` and leaves the rest to `answer`; GET /health is `health`."""

    def __init__(self, answer: Answer, hello: dict[str, Any], health: HTTPStatus) -> None:
        self._answer = answer
        self._hello = hello
        self._health = health
        self.heard: list[Message] = []
        self.server = serve(self._serve, "127.0.0.1", 0, process_request=self._request, compression=None, max_size=None)
        self.port = self.server.socket.getsockname()[1]
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def _request(self, connection: ServerConnection, request: Request) -> Response | None:
        return connection.respond(self._health, "{}") if request.path == "/health" else None

    def _serve(self, connection: ServerConnection) -> None:
        with contextlib.suppress(Exception):
            for data in connection:
                assert isinstance(data, bytes)
                message = Message.unpack(data)
                self.heard.append(message)
                if message.type == wire.HELLO:
                    connection.send(Message(wire.HELLO, self._hello, message.seq).pack())
                else:
                    self._answer(connection, message)

    def stop_listening(self) -> None:
        """As a node that is gone: connections stay as they are, nobody answers new ones."""
        # In a thread, since it waits for the connections to end, which they do with the client.
        threading.Thread(target=self.server.shutdown, kwargs={"close_connections": False}).start()
        self.thread.join()


@pytest.fixture
def odd() -> Iterator[Callable[..., Odd]]:
    started: list[Odd] = []

    def start(answer: Answer, hello: dict[str, Any] = HELLO, health: HTTPStatus = HTTPStatus.OK) -> Odd:
        started.append(Odd(answer, hello, health))
        return started[-1]

    yield start
    for one in started:
        with contextlib.suppress(OSError):
            one.server.shutdown()


def client_of(folder: Path, port: int, answer_timeout: float = PATIENCE, wait_timeout: float = PATIENCE) -> Client:
    run = RunDirectory(folder)
    run.server.mkdir(parents=True, exist_ok=True)
    Rendezvous("run", 0, [f"ws://127.0.0.1:{port}"], "", "", "", 0).publish(run.rendezvous(0))
    times = {"answer_timeout": answer_timeout, "wait_timeout": wait_timeout}
    return Client(run, "run", 0, times, lambda phase: None)


def connected(folder: Path, server: Odd, **times: float) -> Client:
    client = client_of(folder, server.port, **times)
    client.connect("toy")
    return client


def quiet(connection: ServerConnection, message: Message) -> None:
    """No answer to anything."""


def actions(connection: ServerConnection, message: Message) -> None:
    """Answers observations well."""
    if message.type == wire.OBSERVATION:
        connection.send(Message(wire.ACTION, {"actions": np.ones((2, 3), np.float32)}, message.seq).pack())


def test_late_answers_are_not_taken_for_new_ones(odd: Callable[..., Odd], tmp_path: Path) -> None:
    def answer(connection: ServerConnection, message: Message) -> None:
        for seq in (message.seq - 1, 0, message.seq + 1, message.seq):
            value = float(seq == message.seq)
            connection.send(Message(wire.ACTION, {"actions": np.array([value])}, seq).pack())

    client = connected(tmp_path, odd(answer))
    assert [client.act({"states": np.zeros(2)})[0, 0] for _ in range(3)] == [1, 1, 1]
    client.drop()


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"actions": None},
        {"actions": "left"},
        {"actions": ["left"]},
        {"actions": [[1, 2], [3]]},
        {"actions": {"a": 1}},
        {"actions": 1.0},
        {"actions": np.zeros((1, 2, 3))},
        {"actions": np.zeros(3, bool)},
        {"actions": b"\0\0\0\0"},
    ],
    ids=str,
)
def test_what_is_no_action_is_the_policys_error(odd: Callable[..., Odd], tmp_path: Path, payload: Any) -> None:
    client = connected(tmp_path, odd(lambda c, m: c.send(Message(wire.ACTION, payload, m.seq).pack())))
    with pytest.raises(EpisodeError) as caught:
        client.act({})
    assert caught.value.reason == "policy_error"
    assert client.connected
    client.drop()


@pytest.mark.parametrize(
    "payload", [[1.0, 2.0], [[1, 2], [3, 4]], np.zeros(2, ">f4"), np.zeros((3, 2), np.int8)], ids=str
)
def test_whatever_holds_numbers_is_an_action(odd: Callable[..., Odd], tmp_path: Path, payload: Any) -> None:
    client = connected(tmp_path, odd(lambda c, m: c.send(Message(wire.ACTION, {"actions": payload}, m.seq).pack())))
    assert client.act({}).shape == np.atleast_2d(payload).shape
    client.drop()


def test_a_start_that_failed_is_the_policys_error_even_if_actions_follow(
    odd: Callable[..., Odd], tmp_path: Path
) -> None:
    def answer(connection: ServerConnection, message: Message) -> None:
        if message.type == wire.EPISODE_START:
            connection.send(Message(wire.ERROR, {"error": "no such task"}, message.seq).pack())
        actions(connection, message)

    client = connected(tmp_path, odd(answer))
    client.start({"name": "a"})
    with pytest.raises(EpisodeError, match="no such task"):
        client.act({})
    client.drop()


@pytest.mark.parametrize(
    ("code", "error"), [(1007, EpisodeError), (1009, EpisodeError), (1001, ServerLost), (1011, ServerLost)]
)
def test_a_refused_message_is_not_sent_for_ever(
    odd: Callable[..., Odd], tmp_path: Path, code: int, error: type[Exception]
) -> None:
    """What a server cannot read, it will not read the next time either; else the episode is done again."""
    client = connected(tmp_path, odd(lambda c, m: c.close(code)))
    with pytest.raises(error):
        client.act({})
    assert not client.connected


def test_our_own_server_refuses_so(serving: Start, tmp_path: Path) -> None:
    server = serving()
    run = RunDirectory(tmp_path / "run")
    run.server.mkdir(parents=True)
    nonce = json.loads(server.get("/health")[1])["nonce"]
    Rendezvous("run", 0, [server.url], TOKEN, nonce, "", 0).publish(run.rendezvous(0))
    client = Client(run, "run", 0, {"answer_timeout": 30, "wait_timeout": 30}, lambda phase: None)
    client.connect("toy")
    with pytest.raises(EpisodeError, match=r"does not take the message.*100000 exceeds"):
        client.act({"value": [0] * 100_000})
    client.connect("toy")
    assert client.act({"value": 1}).shape == (1, 6)
    client.drop()


@pytest.mark.parametrize(
    "observation",
    [{"a": object()}, {"a": np.array(["text"])}, {"a": np.zeros(1 << 23)}, {"a": 2**70}],
    ids=["object", "text", "large", "integer"],
)
def test_what_cannot_be_sent_is_the_simulators_error(
    odd: Callable[..., Odd], tmp_path: Path, observation: dict[str, Any]
) -> None:
    client = connected(tmp_path, odd(actions))
    with pytest.raises(EpisodeError) as caught:
        client.act(observation)
    assert caught.value.reason == "simulator_step"
    assert client.act({}).shape == (2, 3)
    client.drop()


def test_what_is_no_message_is_a_lost_server(odd: Callable[..., Odd], tmp_path: Path) -> None:
    for sent in (b"\xc1", "text", b"\x91" * 10_000):
        client = connected(tmp_path, odd(lambda c, m, sent=sent: c.send(sent)))
        with pytest.raises(ServerLost, match="no message"):
            client.act({})


@pytest.mark.parametrize("health", [HTTPStatus.OK, HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE])
def test_no_answer_is_the_episodes_timeout_while_the_server_is_there(
    odd: Callable[..., Odd], tmp_path: Path, health: HTTPStatus
) -> None:
    client = connected(tmp_path, odd(quiet, health=health), answer_timeout=0.5)
    with pytest.raises(EpisodeError) as caught:
        client.act({})
    assert caught.value.reason == "server_timeout"
    assert not client.connected


def test_no_answer_of_a_server_that_is_gone_is_a_lost_server(odd: Callable[..., Odd], tmp_path: Path) -> None:
    """A node without power closes no connection; the episode is to be done again, not to fail."""
    server = odd(quiet)
    client = connected(tmp_path, server, answer_timeout=0.5)
    server.stop_listening()
    with pytest.raises(ServerLost):
        client.act({})


def test_a_server_lost_at_an_episodes_end_takes_nothing_of_it(odd: Callable[..., Odd], tmp_path: Path) -> None:
    client = connected(tmp_path, odd(lambda c, m: c.close(1001)))
    client.start({})
    deadline = time.monotonic() + PATIENCE
    while client.connected and time.monotonic() < deadline:
        client.end({"metrics": {"success": True}, "steps": 3, "elapsed_sec": 1.0})
        time.sleep(0.01)
    assert not client.connected
    client.end({"metrics": {"success": True}})


def test_another_version_of_the_protocol_is_told(odd: Callable[..., Odd], tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="speaks protocol version 2: valid: 1"):
        connected(tmp_path, odd(actions, hello={**HELLO, "protocol_version": 2}))
    old = {k: v for k, v in HELLO.items() if k != "protocol_version"}
    connected(tmp_path, odd(actions, hello=old)).drop()


def test_what_a_server_says_of_itself_can_be_written_down(odd: Callable[..., Odd], tmp_path: Path) -> None:
    said = {**HELLO, "model_server": b"\xff", "more": {"weights": np.zeros(3), "deep": [b"x", float("nan")]}}
    client = connected(tmp_path, odd(actions, hello=said))
    json.dumps(client.info)
    assert client.info["capabilities"] == {}
    client.drop()


@pytest.mark.parametrize(
    "answer",
    [b"", b"hello\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"\xff" * 5000, b"HTTP/1.1 999 \r\n\r\n"],
    ids=["nothing", "text", "200", "bytes", "999"],
)
def test_what_is_no_server_is_waited_for_and_given_up(tmp_path: Path, answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        over = threading.Event()

        def talk() -> None:
            listening.settimeout(0.1)
            while not over.is_set():
                with contextlib.suppress(OSError):
                    one, _ = listening.accept()
                    with one:
                        one.sendall(answer)

        thread = threading.Thread(target=talk)
        thread.start()
        try:
            with pytest.raises(ServerGone, match=r"server\.wait_timeout"):
                client_of(tmp_path, listening.getsockname()[1], wait_timeout=0.5).connect("toy")
        finally:
            over.set()
            thread.join()


def test_a_wrong_token_is_told_at_once_in_one_line(vlaeval: Command, serving: Start) -> None:
    server = serving()
    for url in (server.url, f"{server.url}/?token=wrong"):
        done = vlaeval("run", *CONF, f"server.url={url}", VLAEVAL_HPC_TOKEN="")
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert line.startswith("error: the server at ws://127.0.0.1:")
        assert "token" in line and "wrong" not in line


def test_specs_of_a_peer_are_read_with_care() -> None:
    state = {"name": "state", "dims": 8, "format": "raw"}
    picture = {"name": "image", "dims": 0, "format": RGB.format}
    ours, theirs = {"harness_version": wire.HARNESS_VERSION}, {"harness_version": "0.8.0"}
    for info in (ours, theirs):
        assert server_specs({**info, "action_spec": {"a": state}}, "action_spec") == {"a": Spec("state", 8, "raw")}
        assert server_specs({**info, "observation_spec": {"state": state}}, "observation_spec").keys() == {"state"}
    for broken in (None, [], "x", {"a": None}, {"a": {}}, {"a": {**state, "dims": "x"}}):
        assert server_specs({**ours, "action_spec": broken}, "action_spec") == {}
    pictures = {"observation_spec": {"image": picture, "state": state}}
    assert server_specs({**ours, **pictures}, "observation_spec").keys() == {"image", "state"}
    # Which camera "image" is, only the benchmark could say.
    assert server_specs({**theirs, **pictures}, "observation_spec") == {}
