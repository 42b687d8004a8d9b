"""A server names every address that it may have; some lead nowhere, or to somebody else."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from vlaeval_hpc.worker import client
from vlaeval_hpc.worker.client import _first_known


class Health(BaseHTTPRequestHandler):
    nonce = ""

    def do_GET(self) -> None:
        body = json.dumps({"status": "ok", "nonce": self.nonce}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def serving(nonce: str) -> ThreadingHTTPServer:
    handler = type("Named", (Health,), {"nonce": nonce})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.fixture
def urls() -> Iterator[dict[str, str]]:
    """One that accepts and never answers, one where nobody listens, another server's, ours."""
    ours, other = serving("ours"), serving("another's")
    with socket.socket() as silent, socket.socket() as closed:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        closed.bind(("127.0.0.1", 0))
        ports = {"silent": silent.getsockname()[1], "closed": closed.getsockname()[1]}
        ports |= {"other": other.server_port, "ours": ours.server_port}
        yield {name: f"ws://127.0.0.1:{port}" for name, port in ports.items()}
    for server in (ours, other):
        server.shutdown()
        server.server_close()


def test_the_one_that_answers_is_found_without_waiting_for_the_others(
    urls: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = threading.Event()
    health = client._health

    def slow(url: str) -> object:
        if url == urls["silent"]:
            asked.wait(30)  # as long as the test lasts
            return None
        return health(url)

    monkeypatch.setattr(client, "_health", slow)
    assert _first_known([urls[n] for n in ("silent", "closed", "other", "ours")], "ours") == [urls["ours"]]
    asked.set()


def test_none_that_is_ours(urls: dict[str, str]) -> None:
    assert _first_known([urls["closed"], urls["other"]], "ours") == []
