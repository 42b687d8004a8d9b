"""The server as a process, from bind to end, among good clients."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.conftest import ROOT, TESTS
from tests.serving.conftest import Start
from tests.serving.exposition import parse
from tests.serving.parrot import Parrot
from tests.serving.servers import MODEL, PATIENCE, TOKEN, Server, Talker
from vlaeval_hpc.run.rendezvous import Rendezvous
from vlaeval_hpc.serving.addresses import addresses, interfaces
from vlaeval_hpc.serving.server import Place, PolicyServer
from vlaeval_hpc.wire import messages as wire
from vlaeval_hpc.wire.messages import Message

KEEPALIVE_TIMER = "02"  # https://docs.kernel.org/networking/proc_net_tcp.html
ENDS = 2.0  # seconds in which a server that is told to end has ended


def eventually(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def get_while_loading(server: Server, path: str) -> tuple[int, str, str]:
    """GET as soon as somebody listens."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return server.get(path)
        except OSError:
            assert time.monotonic() < deadline and server.process.poll() is None, server.log.read_text()
            time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_health_is_503_until_the_policy_can_answer(starting: Start, tmp_path: Path) -> None:
    gate = tmp_path / "loaded"
    server = starting(port=free_port(), params={"gate": str(gate)})
    status, body, kind = get_while_loading(server, "/health")
    loading = json.loads(body)
    assert (status, kind, loading["status"]) == (503, "application/json", "loading")
    with pytest.raises(InvalidStatus) as caught:
        connect(server.url, additional_headers={"Authorization": f"Bearer {TOKEN}"})
    assert caught.value.response.status_code == 503
    assert server.get("/metrics")[0] == 200
    gate.touch()
    server.wait_ready()
    status, body, kind = server.get("/health", token=None)
    assert (status, kind) == (200, "application/json")
    assert json.loads(body) == {"status": "ok", "nonce": loading["nonce"]}
    assert len(loading["nonce"]) >= 16


def test_two_servers_have_two_nonces(serving: Start) -> None:
    assert len({json.loads(serving().get("/health")[1])["nonce"] for _ in range(2)}) == 2


def test_metrics_count_what_happened(serving: Start) -> None:
    server = serving()
    status, text, kind = server.get("/metrics")
    assert (status, kind) == (200, "text/plain")
    before = parse(text)
    talker = Talker(server)
    talker.start()
    for _ in range(5):
        talker.act()
    assert talker.observe(fault="raise").type == wire.ERROR
    after = parse(server.get("/metrics")[1])
    assert after.keys() == before.keys()
    names = ("sessions", "observations_total", "episodes_total", "errors_total", "waiting", "refused_total")
    found = [after[f"vlaeval_hpc_{n}"].samples[f"vlaeval_hpc_{n}"] for n in names]
    assert found == [1, 5, 1, 1, 0, 0]
    assert after["vlaeval_hpc_batch_size"].samples["vlaeval_hpc_batch_size_count"] == 5
    talker.close()
    eventually(lambda: server.metric("sessions") == 0)


def test_sessions_cannot_see_each_other(serving: Start) -> None:
    """Interleaved: history, chunk queue, step and seed are each one's own, and so is a failure."""
    server = serving(params={"chunk": 2})
    talkers = [Talker(server) for _ in range(3)]
    for i, talker in enumerate(talkers):
        talker.start(name="same task", seed=i)
    for look in range(4):
        for i, talker in enumerate(talkers):
            first = talker.act(10**i)
            second = talker.act(999)  # answered from the chunk, not seen by the policy
            assert tuple(first[:4]) == ((look + 1) * 10**i, look + 1, 2 * look, i)
            assert (first[5], second[5]) == (0, 1)
        # One begins anew; the others go on.
        if look == 1:
            talkers[0].observe(fault="raise")
            other = Talker(server)
            other.start(seed=99)
            assert other.act(7)[0] == 7
            other.close()
    talkers[0].start(seed=5)
    assert tuple(talkers[0].act(1)[:4]) == (1, 1, 0, 5)
    assert tuple(talkers[1].act(10)[:4]) == (50, 5, 8, 1)


def test_batches_form_and_stay_within_their_limit(serving: Start) -> None:
    server = serving(max_batch_size=4, max_wait_time=30.0)
    talkers = [Talker(server) for _ in range(8)]
    for talker in talkers:
        talker.start()
    eventually(lambda: server.metric("episodes_total") == 8)
    for _ in range(5):
        for talker in talkers:
            talker.send(wire.OBSERVATION, {"value": 0})
        # With a wait of 30 s no batch has to go that is not full.
        assert [talker.receive().payload["actions"][4] for talker in talkers] == [4] * 8


def test_a_batch_waits_for_nobody_who_has_left(serving: Start) -> None:
    """Of three in an episode one ends it, one disconnects; the third's batch goes although its wait is long."""
    server = serving(max_batch_size=8, max_wait_time=60.0)
    talkers = [Talker(server) for _ in range(3)]
    for talker in talkers:
        talker.start()
    eventually(lambda: server.metric("episodes_total") == 3)
    seq = talkers[0].send(wire.OBSERVATION, {"value": 1})
    eventually(lambda: server.metric("waiting") == 1)
    talkers[1].send(wire.EPISODE_END, {})
    talkers[2].close()
    answer = talkers[0].socket.recv(timeout=20)
    assert isinstance(answer, bytes)
    assert Message.unpack(answer).seq == seq


def test_a_shorter_wait_is_felt_by_those_who_wait(serving: Start) -> None:
    server = serving(max_batch_size=8, max_wait_time=60.0)
    talkers = [Talker(server) for _ in range(2)]
    for talker in talkers:
        talker.start()
    eventually(lambda: server.metric("episodes_total") == 2)
    talkers[0].send(wire.OBSERVATION, {"value": 1})
    eventually(lambda: server.metric("waiting") == 1)
    server.get("/config?max_wait_time=0")
    talkers[0].socket.recv(timeout=20)


def test_one_sessions_failure_is_not_its_batchs(serving: Start) -> None:
    server = serving(max_batch_size=4, max_wait_time=30.0)
    talkers = [Talker(server) for _ in range(4)]
    for talker in talkers:
        talker.start()
    for look in range(1, 4):
        for i, talker in enumerate(talkers):
            talker.send(wire.OBSERVATION, {"value": i, "fault": "raise" if i == 2 else None})
        answers = [talker.receive() for talker in talkers]
        assert [a.type for a in answers] == [wire.ACTION, wire.ACTION, wire.ERROR, wire.ACTION]
        # Asked again after the batch failed, the others have seen each observation once all the same.
        assert [tuple(answers[i].payload["actions"][:2]) for i in (0, 1, 3)] == [(i * look, look) for i in (0, 1, 3)]


def test_an_error_leaves_the_connection_open(serving: Start) -> None:
    talker = Talker(serving())
    talker.start(fault="raise")
    answer = talker.observe()
    assert answer.type == wire.ERROR
    assert "the parrot is ill" in answer.payload["error"]
    talker.start()
    assert talker.act(2)[0] == 2
    assert talker.observe(fault="stop").type == wire.ERROR
    assert talker.act(3)[0] == 5


def test_the_log_has_the_traceback_of_what_the_policy_raised(serving: Start) -> None:
    server = serving()
    talker = Talker(server)
    for _ in range(3):
        talker.observe(fault="raise")
    log = server.log.read_text()
    assert log.count("Traceback") == 1
    assert "the parrot is ill" in log


def run_in_process(place: Place, load_seconds: float, announced: Callable[[Rendezvous], None]) -> float:
    """Serve in this process until it ends by itself; the seconds from ready to end."""
    policy = Parrot()
    policy.load = lambda: time.sleep(load_seconds)  # type: ignore[method-assign]
    ready: list[float] = []

    def announce(found: Rendezvous) -> None:
        ready.append(time.monotonic())
        announced(found)

    async def run() -> None:
        await asyncio.wait_for(PolicyServer("parrot", policy, MODEL, place).run(announce), PATIENCE)

    asyncio.run(run())
    return time.monotonic() - ready[0]


def test_it_ends_when_nobody_came_for_long_and_loading_does_not_count() -> None:
    assert run_in_process(Place(idle_timeout=1.2), 1.5, lambda found: None) > 1.2


def test_it_publishes_where_it_is_and_ends_by_the_stop_file(tmp_path: Path) -> None:
    place = Place(run="a-run", replica=3, rendezvous=tmp_path / "rendezvous-3.json", stop=tmp_path / "stop")

    def announced(found: Rendezvous) -> None:
        assert place.rendezvous is not None and place.stop is not None
        published = Rendezvous.read(place.rendezvous)
        assert published is not None and published.published > time.time() - PATIENCE
        assert (published.urls, published.nonce, published.token) == (found.urls, found.nonce, found.token)
        assert (found.run, found.replica, found.token, found.pid) == ("a-run", 3, place.token, os.getpid())
        assert place.rendezvous.stat().st_mode & 0o777 == 0o600
        place.stop.touch()

    run_in_process(place, 0, announced)


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::"])
def test_a_server_on_all_addresses_names_them_loopback_last(host: str) -> None:
    found = addresses(host)
    assert found[-1] == "127.0.0.1"
    assert len(found) == len(set(found))
    assert not {"", "0.0.0.0", "::"} & set(found)
    assert set(interfaces()) <= set(found) and "127.0.0.1" in interfaces()
    assert addresses("10.1.2.3") == ["10.1.2.3"]


def test_sigterm_ends_it_soon_while_loading(starting: Start, tmp_path: Path) -> None:
    server = starting(port=free_port(), params={"gate": str(tmp_path / "never")})
    get_while_loading(server, "/health")
    begin = time.monotonic()
    assert server.end() == 0
    assert time.monotonic() - begin < ENDS


def test_sigint_ends_it_soon_while_predicting(serving: Start) -> None:
    """The clients see the connection close, not an error of the policy: they ask again where a server is."""
    server = serving(params={"latency": 60.0})
    talkers = [Talker(server) for _ in range(3)]
    for talker in talkers:
        talker.send(wire.OBSERVATION, {"value": 0})
    eventually(lambda: server.metric("waiting") == 3)
    begin = time.monotonic()
    assert server.end(signal.SIGINT) == 0
    assert time.monotonic() - begin < ENDS
    for talker in talkers:
        with pytest.raises(Exception, match="1001"):
            talker.receive()


def test_a_policy_that_does_not_load_ends_the_server_with_its_traceback(starting: Start, tmp_path: Path) -> None:
    server = starting(target="doubles.pilot:Pilot", checkpoint=None, params={"fault": "load"})
    assert server.process.wait(PATIENCE) == 1
    assert "no such weights" in server.log.read_text()


def test_a_port_that_is_taken_is_one_line(serving: Start, starting: Start) -> None:
    taken = serving().port
    second = starting(port=taken)
    assert second.process.wait(PATIENCE) == 2
    lines = second.log.read_text().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: server.host, server.port: cannot listen on 127.0.0.1:")


@pytest.mark.parametrize("server", [{"host": "192.0.2.1", "port": 0}, {"host": "127.0.0.1", "port": 70000}])
def test_an_address_that_is_not_ours_is_one_line(server: dict[str, object]) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "vlaeval_hpc" / "bootstrap.py"), "vlaeval_hpc.serving", "-"],
        input=json.dumps({"model": MODEL, "server": server}),
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: server.host, server.port: ") and done.stderr.count("\n") == 1


def test_serve_by_hand_prints_a_url_that_opens(tmp_path: Path) -> None:
    """A token from the environment, whatever characters it has, stays usable in the URL."""
    token = "a b&c=d/é?"
    process = subprocess.Popen(
        [sys.executable, "-m", "vlaeval_hpc", "serve", "--config-dir", str(TESTS / "conf"), "model=pilot"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "VLAEVAL_HPC_TOKEN": token},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("ready ws://127.0.0.1:")
        with connect(line.split()[1]) as socket_:
            socket_.send(Message(wire.HELLO, {}, 1).pack())
            answer = socket_.recv(timeout=PATIENCE)
            assert isinstance(answer, bytes)
            assert Message.unpack(answer).payload["model_server"] == "pilot"
        assert token not in Path(f"/proc/{process.pid}/cmdline").read_text()
        process.terminate()
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads Linux's table of connections")
def test_the_kernel_asks_after_clients_that_are_silent(serving: Start) -> None:
    """A node that lost its power says no goodbye; without this its session would last for ever."""
    server = serving()
    talker = Talker(server)
    theirs = talker.socket.socket.getsockname()[1]

    def asks_within_a_minute() -> bool:
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            if [int(address.split(":")[1], 16) for address in fields[1:3]] == [server.port, theirs]:
                timer, when = fields[5].split(":")
                return timer == KEEPALIVE_TIMER and int(when, 16) <= 60 * os.sysconf("SC_CLK_TCK")
        return False

    eventually(asks_within_a_minute)
