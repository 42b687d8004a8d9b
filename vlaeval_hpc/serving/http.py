"""What the server answers to plain GET requests, and who may ask: /health, /config, /metrics, else a WebSocket."""

from __future__ import annotations

import hmac
import json
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from vlaeval_hpc.serving.batching import LARGEST_BATCH, Batcher
from vlaeval_hpc.serving.metrics import Metrics

LONGEST_WAIT = 60.0
_VALID = f"max_batch_size 1 to {LARGEST_BATCH}, max_wait_time 0 to {LONGEST_WAIT:g} (seconds), or auto"


class Gate:
    """Decides each request before a WebSocket is opened: everything but /health needs the token.

    /health is 503 until `ready` and while `draining`, else 200, and tells the nonce by which a shard knows this server
    from whatever else came to listen at the same address.
    """

    def __init__(self, token: str, nonce: str, batcher: Batcher, metrics: Metrics) -> None:
        self.ready = False
        self.draining = False
        self._token = token
        self._nonce = nonce
        self._batcher = batcher
        self._metrics = metrics

    def __call__(self, connection: ServerConnection, request: Request) -> Response | None:
        """websockets' `process_request`: a response ends the connection, None opens the WebSocket."""
        try:
            url = urlsplit(request.path)
            query = parse_qs(url.query)
        except ValueError:
            return connection.respond(HTTPStatus.BAD_REQUEST, "bad request\n")
        if url.path == "/health":
            word = "draining" if self.draining else "ok" if self.ready else "loading"
            status = HTTPStatus.OK if word == "ok" else HTTPStatus.SERVICE_UNAVAILABLE
            return _json(connection, status, {"status": word, "nonce": self._nonce})
        if not self._known(request, query):
            self._metrics.refused += 1
            return connection.respond(
                HTTPStatus.UNAUTHORIZED, "the run's token is needed: Authorization: Bearer TOKEN\n"
            )
        if url.path == "/metrics":
            response = connection.respond(HTTPStatus.OK, self._metrics.text())
            del response.headers["Content-Type"]
            response.headers["Content-Type"] = "text/plain; version=0.0.4; charset=utf-8"
            return response
        if url.path == "/config":
            return self._config(connection, query)
        if not self.ready:
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "the policy is loading\n")
        if self.draining:
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "draining: another server takes new episodes\n")
        return None

    def _known(self, request: Request, query: dict[str, list[str]]) -> bool:
        given = request.headers.get_all("Authorization")
        scheme, _, offered = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        if scheme.lower() not in ("bearer", "api-key"):  # the second is how openpi's clients say it
            offered = query.get("token", [""])[-1]
        # Whatever bytes came, surrogates included, are compared as bytes.
        return hmac.compare_digest(offered.strip().encode("utf-8", "surrogateescape"), self._token.encode())

    def _config(self, connection: ServerConnection, query: dict[str, list[str]]) -> Response:
        """Read the batching, or set it: `?max_batch_size=8&max_wait_time=0.01`; all is applied or nothing."""
        wanted = {k: v[-1] for k, v in query.items() if k != "token"}
        applied: dict[str, Any] = {}
        errors = []
        for key, text in wanted.items():
            try:
                if text == "auto" and key in ("max_batch_size", "max_wait_time"):
                    applied[key] = None
                elif key == "max_batch_size" and 1 <= int(text) <= LARGEST_BATCH:
                    applied[key] = int(text)
                elif key == "max_wait_time" and 0 <= float(text) <= LONGEST_WAIT:
                    applied[key] = float(text)
                else:
                    errors.append(f"{key}={text}: valid: {_VALID}")
            except ValueError:
                errors.append(f"{key}={text}: not a number")
        if errors:
            return _json(connection, HTTPStatus.UNPROCESSABLE_ENTITY, {"errors": errors})
        for key, value in applied.items():
            setattr(self._batcher, key, value)
        self._batcher.look_again()
        current = {"max_batch_size": self._batcher.max_batch_size, "max_wait_time": self._batcher.max_wait_time}
        return _json(connection, HTTPStatus.OK, {"applied": applied, "config": current})


def _json(connection: ServerConnection, status: HTTPStatus, value: dict[str, Any]) -> Response:
    response = connection.respond(status, json.dumps(value) + "\n")
    del response.headers["Content-Type"]
    response.headers["Content-Type"] = "application/json"
    return response
