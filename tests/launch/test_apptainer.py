from __future__ import annotations

import base64
import hashlib
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from vlaeval_hpc.errors import ConfigurationError, InfrastructureError
from vlaeval_hpc.launch.apptainer import (
    build,
    check_sif,
    container_variables,
    exec_command,
    parse_reference,
    pull,
    registry_digest,
    version,
)

DIGEST = f"sha256:{'a' * 64}"


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty PATH."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def put(folder: Path, name: str, script: str = "") -> Path:
    """A command that runs a Python script."""
    path = folder / name
    path.write_text(f"#!{sys.executable}\n{script}")
    path.chmod(0o755)
    return path


def test_what_is_executed(programs: Path, tmp_path: Path) -> None:
    apptainer = put(programs, "apptainer")
    (tmp_path / "a,b:c").mkdir()
    line = exec_command(
        Path("/images/x.sif"),
        ["python3", "-c", "print(1)"],
        binds=[str(tmp_path / "a,b:c"), f"{tmp_path}:/inside:ro"],
        scratch=Path("/scratch"),
        nv=True,
        flags=["--net"],
    )
    assert line[:3] == [str(apptainer), "--quiet", "exec"]
    at = line.index("/images/x.sif")
    assert line[at + 1 :] == ["env", "HOME=/tmp", "PYTHONNOUSERSITE=1", "python3", "-c", "print(1)"]
    assert line[at - 1] == "--net" and "--nv" in line
    assert {"--containall", "--cleanenv", "--no-home", "--no-eval"} <= set(line)
    assert line[line.index("--workdir") + 1] == "/scratch"
    binds = [line[i + 1] for i, word in enumerate(line) if word == "--bind"]
    assert binds == [rf"{tmp_path}/a\,b\:c", f"{tmp_path}:/inside:ro"]
    assert "--nv" not in exec_command(Path("x.sif"), ["true"], scratch=tmp_path)


def test_a_bind_of_nothing_is_refused(programs: Path, tmp_path: Path) -> None:
    put(programs, "apptainer")
    with pytest.raises(ConfigurationError, match="bind /nowhere:/a: no such path here: valid: PATH, "):
        exec_command(Path("x.sif"), ["true"], binds=["/nowhere:/a"], scratch=tmp_path)


def test_no_apptainer_is_told_in_one_line(programs: Path, tmp_path: Path) -> None:
    for call in (version, lambda: exec_command(Path("x.sif"), ["true"], scratch=tmp_path)):
        with pytest.raises(ConfigurationError, match="neither apptainer nor singularity is on PATH") as caught:
            call()
        assert "\n" not in str(caught.value)


def test_version_is_what_it_says(programs: Path) -> None:
    put(programs, "apptainer", "print('apptainer version 9.1')")
    assert version() == "apptainer version 9.1"


@pytest.mark.parametrize("kind", ["apptainer", "link", "singularity"])
def test_variables_go_in_by_the_environment_alone(kind: str, programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind == "link":
        (programs / "elsewhere").mkdir()
        (programs / "singularity").symlink_to(put(programs / "elsewhere", "apptainer"))
    else:
        put(programs, kind)
    for name, value in {
        "APPTAINER_BIND": "/data",
        "APPTAINERENV_OTHER": "1",
        "SINGULARITYENV_OTHER": "1",
        "https_proxy": "http://proxy",
        "SECRET": "1",
    }.items():
        monkeypatch.setenv(name, value)
    found = container_variables({"TOKEN": "a$b", "HOME": "/elsewhere"})
    prefix = "SINGULARITYENV_" if kind == "singularity" else "APPTAINERENV_"
    assert {k: v for k, v in found.items() if "ENV_" in k} == {f"{prefix}TOKEN": "a$b"}
    assert found["PATH"] == str(programs) and found["APPTAINER_BIND"] == "/data"
    assert "SECRET" not in found and "https_proxy" not in found


def test_a_sif_is_told_by_its_magic(tmp_path: Path) -> None:
    good = tmp_path / "good.sif"
    good.write_bytes(b"#!/usr/bin/env run-singularity\n\0SIF_MAGIC\x0001\0")
    check_sif(good)
    for name, content in (("empty.sif", b""), ("text.sif", b"x" * 100)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ConfigurationError, match=f"{name}: no Apptainer image: valid: a SIF"):
            check_sif(tmp_path / name)
    with pytest.raises(ConfigurationError, match="missing.sif: No such file"):
        check_sif(tmp_path / "missing.sif")


def test_plain_http_is_for_registries_of_this_machine(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("APPTAINER_CACHEDIR", raising=False)
    put(programs, "apptainer", "import os, sys\nprint(sys.argv[1:], os.environ['APPTAINER_DISABLE_CACHE'])")
    log = tmp_path / "log"
    for source, plain in (("docker://127.0.0.1:5000/x", True), ("docker://localhost.org/x", False)):
        pull(source, tmp_path / "x.sif", log)
        assert ("--no-https" in log.read_text()) is plain
        build(tmp_path / "x.def", tmp_path / "x.sif", {"BASE": source.removeprefix("docker://")}, log)
        assert ("--no-https" in log.read_text()) is plain and "'--build-arg', 'BASE=" in log.read_text()


def test_what_failed_in_a_step_is_told_and_where_the_story_is(programs: Path, tmp_path: Path) -> None:
    put(programs, "apptainer", "print('ERROR: no numpy 9\\nFATAL: a step failed')\nraise SystemExit(255)")
    with pytest.raises(ConfigurationError) as caught:
        build(tmp_path / "x.def", tmp_path / "x.sif", {}, tmp_path / "x.log")
    assert str(caught.value) == (
        f"{tmp_path}/x.def: cannot be built: no numpy 9: the whole story is in {tmp_path}/x.log"
    )


@pytest.mark.parametrize(
    "source, expected",
    [
        ("docker://python", ("docker.io", "library/python", "latest", None)),
        ("docker://python:3.11-slim", ("docker.io", "library/python", "3.11-slim", None)),
        ("docker://lab/sim", ("docker.io", "lab/sim", "latest", None)),
        ("docker://ghcr.io/lab/a/sim:v1", ("ghcr.io", "lab/a/sim", "v1", None)),
        ("docker://localhost/sim", ("localhost", "sim", "latest", None)),
        ("docker://box:5000/sim", ("box", "sim", "latest", None)),
        (f"docker://ghcr.io/lab/sim:v1@{DIGEST}", ("ghcr.io", "lab/sim", "v1", DIGEST)),
    ],
)
def test_references(source: str, expected: tuple[str, str, str, str | None]) -> None:
    found = parse_reference(source)
    assert (found.registry.removesuffix(":5000"), *found[1:]) == expected
    assert found.pinned(DIGEST) == f"docker://{found.registry}/{found.repository}@{DIGEST}"


@pytest.mark.parametrize("source", ["docker://", "docker://Upper/Case", "docker://a b", "docker://x@sha256:12", "x"])
def test_no_reference(source: str) -> None:
    with pytest.raises(ConfigurationError, match=r"valid: docker://\[REGISTRY/\]"):
        parse_reference(source)


class Registry:
    """A registry with one image, `lab/sim:latest`; `login` opens it, by Basic or, with `tokens`, for a token."""

    def __init__(self) -> None:
        self.manifest = b"{}"
        self.tells = True  # its digest, by HEAD
        self.login: str | None = None
        self.tokens = False
        self.status = 200
        self.asked: list[str] = []
        self.address = ""

    @property
    def digest(self) -> str:
        return f"sha256:{hashlib.sha256(self.manifest).hexdigest()}"


def handler(registry: Registry) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            registry.asked.append(f"{self.command} {self.path}")
            given = self.headers.get("Authorization")
            basic = registry.login and f"Basic {base64.b64encode(registry.login.encode()).decode()}"
            if path == "/token":
                assert query == "service=here&scope=repository%3Alab%2Fsim%3Apull"
                self.answer(200 if given == basic else 401, b'{"token": "t"}')
            elif registry.status != 200:
                self.answer(registry.status)
            elif registry.tokens and given != "Bearer t":
                scope = 'service="here",scope="repository:lab/sim:pull"'
                self.answer(401, challenge=f'Bearer realm="http://{registry.address}/token",{scope}')
            elif not registry.tokens and given != basic:
                self.answer(401, challenge='Basic realm="here"')
            elif path == "/v2/lab/sim/manifests/latest":
                assert "application/vnd.oci.image.index.v1+json" in self.headers["Accept"]
                self.answer(200, registry.manifest, registry.digest if registry.tells else None)
            else:
                self.answer(404)

        def answer(self, status: int, body: bytes = b"", digest: str | None = None, challenge: str = "") -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            if digest:
                self.send_header("Docker-Content-Digest", digest)
            if challenge:
                self.send_header("WWW-Authenticate", challenge)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    for name in ("APPTAINER_DOCKER_USERNAME", "APPTAINER_DOCKER_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    found = Registry()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(found))
    found.address = f"127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_public_image_by_one_question(registry: Registry) -> None:
    assert registry_digest(f"docker://{registry.address}/lab/sim") == registry.digest
    assert registry.asked == ["HEAD /v2/lab/sim/manifests/latest"]
    registry.tells = False
    assert registry_digest(f"docker://{registry.address}/lab/sim") == registry.digest


@pytest.mark.parametrize("tokens", [True, False])
def test_a_private_image(registry: Registry, tokens: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    registry.login, registry.tokens = "me:secret", tokens
    source = f"docker://{registry.address}/lab/sim"
    with pytest.raises(ConfigurationError, match="APPTAINER_DOCKER_USERNAME and") as caught:
        registry_digest(source)
    assert "\n" not in str(caught.value)
    monkeypatch.setenv("APPTAINER_DOCKER_USERNAME", "me")
    monkeypatch.setenv("APPTAINER_DOCKER_PASSWORD", "secret")
    assert registry_digest(source) == registry.digest


def test_a_token_for_anybody(registry: Registry) -> None:
    registry.tokens = True
    assert registry_digest(f"docker://{registry.address}/lab/sim:latest") == registry.digest


def test_what_is_wrong_and_what_is_down(registry: Registry) -> None:
    with pytest.raises(ConfigurationError, match="has no such image"):
        registry_digest(f"docker://{registry.address}/lab/other")
    registry.status = 503
    with pytest.raises(InfrastructureError, match="answers 503"):
        registry_digest(f"docker://{registry.address}/lab/sim")
    with pytest.raises(InfrastructureError, match="127.0.0.1:9 cannot be asked: .*refused"):
        registry_digest("docker://127.0.0.1:9/lab/sim")
