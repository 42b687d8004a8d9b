"""A double of the Hugging Face hub over real HTTP: model info, the tree, and files with their ETag and commit."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

Files = dict[str, bytes]


class Hub:
    """One repository, `lab/tiny`; `refs` maps branches to commits, `commits` those to files."""

    def __init__(self) -> None:
        self.commits: dict[str, Files] = {}
        self.refs: dict[str, str] = {}
        self.asked: list[str] = []
        self.tokens: set[str | None] = set()
        self.token: str | None = None  # that opens it; None: any, or none
        self.gated = False
        self.broken: str | None = None  # a file whose download breaks off
        self.url = ""

    def commit(self, files: Files, branch: str = "main") -> str:
        """Put files there, as a new commit of a branch; its hash."""
        name = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        self.commits[name] = files
        self.refs[branch] = name
        return name


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.asked.append(f"{self.command} {path}")
            token = self.headers.get("Authorization")
            hub.tokens.add(token)
            if hub.token and token != f"Bearer {hub.token}":
                self.refuse(401, "RepoNotFound")
            elif path.startswith("/api/models/lab/tiny/revision/"):
                self.info(path.removeprefix("/api/models/lab/tiny/revision/"))
            elif path.startswith("/api/models/lab/tiny/tree/"):
                self.tree(path.removeprefix("/api/models/lab/tiny/tree/"))
            elif path.startswith("/lab/tiny/resolve/"):
                self.file(*path.removeprefix("/lab/tiny/resolve/").split("/", 1))
            else:
                self.refuse(404, "RepoNotFound")

        def info(self, revision: str) -> None:
            commit = hub.refs.get(revision, revision)
            if commit not in hub.commits:
                return self.refuse(404, "RevisionNotFound")
            siblings = [{"rfilename": name} for name in hub.commits[commit]]
            return self.answer({"id": "lab/tiny", "sha": commit, "siblings": siblings})

        def tree(self, commit: str) -> None:
            files = hub.commits[commit]
            self.answer([{"type": "file", "path": n, "size": len(d), "oid": _etag(d)} for n, d in files.items()])

        def file(self, commit: str, name: str) -> None:
            if hub.gated:
                return self.refuse(403, "GatedRepo")
            data = hub.commits[commit][name]
            begin = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
            self.send_response(206 if begin else 200)
            self.send_header("ETag", f'"{_etag(data)}"')
            self.send_header("X-Repo-Commit", commit)
            self.send_header("Accept-Ranges", "bytes")
            if begin:
                self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
            self.send_header("Content-Length", str(len(data) - begin))
            self.end_headers()
            if self.command == "GET":
                if name == hub.broken:
                    self.wfile.write(data[begin : begin + len(data) // 2])
                    self.close_connection = True
                else:
                    self.wfile.write(data[begin:])
            return None

        def refuse(self, status: int, code: str) -> None:
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("X-Error-Message", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def answer(self, value: object) -> None:
            data = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def _etag(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


@contextmanager
def serving(hub: Hub) -> Iterator[None]:
    """The hub at `hub.url`, for as long."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
