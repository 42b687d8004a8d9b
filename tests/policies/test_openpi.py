"""openpi both ways: our client on a server that speaks with openpi-client's codec, openpi-client itself on ours."""

from __future__ import annotations

import json
import subprocess
import zlib
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.policies.conftest import PEERS, Peer
from tests.serving.conftest import Start
from tests.serving.servers import PATIENCE, TOKEN
from tests.wire.values import payloads, same
from vlaeval_hpc.errors import ConfigurationError, InfrastructureError
from vlaeval_hpc.policies.base import Session
from vlaeval_hpc.policies.openpi import Openpi, resized
from vlaeval_hpc.wire import openpi
from vlaeval_hpc.wire.codec import WireError

CAMERAS = {"observation/image": "agentview", "observation/wrist_image": "wrist"}


def client(port: int, **more: Any) -> Openpi:
    parameters: dict[str, Any] = {"dim": 7, "cameras": CAMERAS, "state_dim": 8, "timeout": 30.0, **more}
    return Openpi(checkpoint=None, url=f"ws://127.0.0.1:{port}", **parameters)


def picture(*size: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def seen(prompt: str) -> dict[str, Any]:
    images = {"agentview": picture(256, 256), "wrist": picture(256, 256, seed=1)}
    return {"images": images, "states": np.linspace(0, 1, 8), "task_description": prompt}


def ask(policy: Openpi, *prompts: str) -> list[NDArray[Any]]:
    return policy.predict([seen(p) for p in prompts], [Session(p) for p in prompts])


def test_a_server_is_told_what_openpis_own_client_tells_it(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENPI_API_KEY", "the-key")
    policy = client(peer("openpi_server.py"))
    policy.load()
    assert policy.metadata == {"robot": "double", "known": True, "scale": 0.5}
    first, second = ask(policy, "go", "stop")
    told = [zlib.crc32(resized(picture(256, 256, seed=i), 224).tobytes()) % 10_000 for i in range(2)]
    assert first.shape == (5, 7) and first.dtype == np.float32
    np.testing.assert_allclose(first[2], [*told, 0, 1 / 7, 2, 1, 2], rtol=1e-6)
    assert second[0, 4] == 4
    assert second[0, 5] == 1  # one connection for all


def test_its_failure_is_told_and_the_next_question_is_answered(peer: Peer) -> None:
    policy = client(peer("openpi_server.py"))
    policy.load()
    with pytest.raises(RuntimeError, match=r"(?s)ws://127\.0\.0\.1:\d+ failed: .*KeyError: 'observation/image_2'"):
        ask(policy, "fail")
    with pytest.raises(ValueError, match=r"shape \(5, 6\)"):
        ask(policy, "narrow")
    with pytest.raises(InfrastructureError, match="is lost: WireError"):
        ask(policy, "text")
    assert ask(policy, "go")[0][0, 5] == 3


def test_a_server_that_is_lost_or_silent_is_said_to_be_so(peer: Peer) -> None:
    policy = client(peer("openpi_server.py"), timeout=6.0)
    policy.load()
    with pytest.raises(InfrastructureError, match="no answer in 6 s"):
        ask(policy, "slow")
    with pytest.raises(InfrastructureError, match="is lost"):
        ask(policy, "die")
    assert ask(policy, "go")[0].shape == (5, 7)
    peer.stop()
    for _ in range(2):
        with pytest.raises(InfrastructureError, match="is lost: ConnectionRefused"):
            ask(policy, "go")


def test_a_server_that_was_started_again_is_found(peer: Peer) -> None:
    port = peer("openpi_server.py")
    policy = client(port)
    policy.load()
    ask(policy, "go")
    peer.stop()
    assert peer("openpi_server.py", str(port)) == port
    assert ask(policy, "go")[0][0, 5] == 1


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "http://host:8000", "ws://", "ws://host:nine"])
def test_a_wrong_url_is_told_at_once(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"model\.params\.url"):
        Openpi(checkpoint=None, url=url, dim=7, cameras=CAMERAS)


SIZES = [(256, 256), (224, 224), (480, 640), (640, 480), (100, 37), (225, 224), (3, 300)]


def test_images_are_resized_to_the_bit_as_openpi_does(outside_python: Path, tmp_path: Path) -> None:
    images: dict[str, Any] = {f"{h}x{w}": picture(h, w) for h, w in SIZES}
    given, made = tmp_path / "given.npz", tmp_path / "made.npz"
    np.savez(given, **images)
    command = [str(outside_python), str(PEERS / "openpi_resize.py"), str(given), str(made), "224"]
    subprocess.run(command, check=True, timeout=60)
    theirs = np.load(made)
    for name, image in images.items():
        assert np.array_equal(resized(image, 224), theirs[name]), name
        assert resized(image, None) is image


def test_openpis_client_is_answered(serving: Start, outside_python: Path) -> None:
    server = serving(name="echo", target="policies.echo:Echo", checkpoint=None)
    command = [str(outside_python), str(PEERS / "openpi_asks.py"), f"{server.url}/openpi", TOKEN]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    metadata, *actions, failed, missing, again = [json.loads(line) for line in done.stdout.splitlines()]
    assert metadata["model_server"] == "echo" and metadata["observation_spec"]["wrist"]["format"] == "rgb_hwc_uint8"
    # Images, state and prompt; the steps since the prompt changed, and the looks since the policy was reset.
    assert actions == [
        [[3, 6], "float32", [10, 20, 28, 2, 0, 1]],
        [[3, 6], "float32", [20, 40, 28, 2, 3, 2]],
        [[3, 6], "float32", [30, 60, 28, 4, 0, 1]],
    ]
    assert failed == "Error in inference server:\nRuntimeError: the echo is ill"
    assert missing.endswith("the policy looks at the camera 'agentview': send observation/image")
    assert again == actions[0]
    assert server.metric("errors_total") == 1


def test_our_client_on_our_server(serving: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serving(name="echo", target="policies.echo:Echo", checkpoint=None, chunk_size=2)
    policy = Openpi(checkpoint=None, url=f"{server.url}/openpi", dim=6, cameras=CAMERAS, state_dim=8)
    with pytest.raises(InfrastructureError, match="HTTP 401"):
        policy.load()
    monkeypatch.setenv("OPENPI_API_KEY", TOKEN)
    policy.load()
    first, second = ask(policy, "go", "go")
    assert first.shape == second.shape == (2, 6)
    assert (first[0, 4:].tolist(), second[0, 4:].tolist()) == ([0, 1], [2, 2])


def test_an_ensemble_gives_openpi_one_action_a_look(serving: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serving(name="echo", target="policies.echo:Echo", checkpoint=None, action_ensemble="average")
    monkeypatch.setenv("OPENPI_API_KEY", TOKEN)
    policy = Openpi(checkpoint=None, url=f"{server.url}/openpi", dim=6, cameras=CAMERAS, state_dim=8)
    assert [chunk[:, 4].tolist() for chunk in ask(policy, "go", "go")] == [[0], [0.5]]


@pytest.mark.parametrize("frame", [b"", b"\xc1", b"\x90", "text", b"\x81\xa1a\x81\xc4\x01b\x01"], ids=repr)
def test_what_is_no_observation_ends_the_connection_in_words(serving: Start, frame: str | bytes) -> None:
    server = serving(name="echo", target="policies.echo:Echo", checkpoint=None)
    headers = {"Authorization": f"Api-Key {TOKEN}"}
    with connect(f"{server.url}/openpi", additional_headers=headers) as socket:
        assert isinstance(socket.recv(timeout=PATIENCE), bytes)
        socket.send(frame)
        assert isinstance(socket.recv(timeout=PATIENCE), str)
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=PATIENCE)
    assert closed.value.rcvd is not None and closed.value.rcvd.code == 1007


@given(payloads())
@settings(max_examples=50, deadline=None)
def test_what_is_packed_is_unpacked(payload: dict[str, Any]) -> None:
    assert same(openpi.decode(openpi.encode(payload)), payload)


@given(st.binary(max_size=200))
@settings(max_examples=50, deadline=None)
def test_other_bytes_are_refused(data: bytes) -> None:
    try:
        assert isinstance(openpi.decode(data), dict)
    except WireError:
        pass


@pytest.mark.parametrize(
    "value",
    [
        {b"__ndarray__": True, b"data": b"\0" * 8, b"dtype": "|O", b"shape": [1]},
        {b"__ndarray__": True, b"data": b"\0", b"dtype": "<f8", b"shape": [1 << 40]},
        {b"__ndarray__": True},
        {b"__npgeneric__": True, b"data": [1], b"dtype": "<f4"},
        {b"other": 1},
        [1, 2],
    ],
    ids=str,
)
def test_odd_messages_are_refused(value: Any) -> None:
    with pytest.raises(WireError):
        openpi.decode(msgpack.packb({"a": value} if isinstance(value, dict) else value))
