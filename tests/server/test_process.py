"""The real process at its end, whatever it is doing then."""

import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.process import HUNG_STATUS, MAX_DESCRIPTORS, allow_descriptors
from tests.server.process import Server, free_port, noise, serving, until, wav

DEMO = Path(__file__).parents[2] / "demo" / "engines"
NAME = "hubert-intent-english"
PATH = f"/v1/encode?model={NAME}&pooling=mean"
# A clip of 3 s keeps the engine until the test lets it go, one of 4 s for good; a model called "endless" never loads.
PROGRAM = """
import sys, time
from engines import repository
from engines.engine import Engine
from sonant.cli import main
from tests.server import faulty

run, load = Engine.run, repository.load

def sometimes_slow(self, clips, outputs):
    longest = max(len(clip) for clip in clips) // self.manifest.sample_rate
    if longest == 3:
        faulty.hold()
    time.sleep(10**6 if longest == 4 else 0)
    return run(self, clips, outputs)

def sometimes_endless(engine):
    time.sleep(10**6 if engine.name == "endless" else 0)
    return load(engine)

Engine.run, repository.load = sometimes_slow, sometimes_endless
sys.exit(main())
"""
HELD, HANGING, QUICK = (wav(noise(seconds), subtype="PCM_16") for seconds in (3, 4, 1))
TERM, INT = signal.SIGTERM, signal.SIGINT
# Much more than any of these ends needs, on a loaded machine too; what would wait for a hung thread exceeds it.
SOON = 60


@pytest.fixture
def models(tmp_path: Path) -> Path:
    (tmp_path / NAME).symlink_to(DEMO / NAME)
    return tmp_path


@contextmanager
def faulty(models: Path, **settings: Any) -> Iterator[Server]:
    with serving(models, program=("-c", PROGRAM), **settings) as server:
        yield server


@contextmanager
def posting(server: Server, *bodies: bytes) -> Iterator[list[Future[httpx.Response]]]:
    """Post each of `bodies`; all have been admitted."""
    with ThreadPoolExecutor(len(bodies)) as pool, httpx.Client(base_url=server.client.base_url, timeout=60) as client:
        yield [pool.submit(client.post, PATH, content=body) for body in bodies if wait_until_admitted(server, 0)]


def in_progress(server: Server) -> int:
    """Return how many requests the server is at, other than this one."""
    [line] = [
        line
        for line in server.client.get("/metrics").text.splitlines()
        if line.startswith("sonant_requests_in_progress ")
    ]
    return int(float(line.split()[1])) - 1


def wait_until_admitted(server: Server, count: int) -> bool:
    until(lambda: in_progress(server) >= count)
    return True


def test_it_drains_and_says_so(models: Path) -> None:
    with faulty(models) as server:
        with server.held(lambda: httpx.post(f"{server.client.base_url}{PATH}", content=HELD, timeout=SOON)) as answer:
            it_drains(server)
            assert not answer.done()
        assert answer.result().status_code == 200
        assert answer.result().headers["Connection"] == "close"
        assert server.process.wait(SOON) == 0
        with pytest.raises(httpx.ConnectError):
            server.client.get("/health/live")


def it_drains(server: Server) -> None:
    """Send a signal, and see what is answered meanwhile."""
    server.process.send_signal(TERM)
    until(lambda: server.client.get("/health/ready").status_code != 200)
    ready = server.client.get("/health/ready")
    assert ready.status_code == 503
    assert ready.json() == {"status": "shutting_down", "models": {NAME: "ready"}}
    assert ready.headers["Connection"] == "close"
    assert server.client.get("/health/live").status_code == 200
    refused = server.client.post(PATH, content=QUICK)
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "shutting_down"
    assert int(refused.headers["Retry-After"]) >= 1
    assert refused.headers["Connection"] == "close"


def test_what_is_not_finished_in_time_is_answered_503(models: Path) -> None:
    with faulty(models, shutdown_seconds=2) as server, posting(server, HANGING) as [answer]:
        wait_until_admitted(server, 1)
        server.process.send_signal(TERM)
        assert answer.result().status_code == 503
        assert answer.result().json()["error"]["code"] == "shutting_down"
        assert server.process.wait(SOON) == 0


def test_what_was_admitted_expires_at_its_deadline(models: Path) -> None:
    with faulty(models, timeout=1, shutdown_seconds=60) as server, posting(server, HANGING) as [answer]:
        wait_until_admitted(server, 1)
        server.process.send_signal(TERM)
        assert answer.result().status_code == 504


@pytest.mark.parametrize(("first", "second"), [(TERM, TERM), (INT, INT)])
def test_a_second_signal_ends_it_at_once(models: Path, first: signal.Signals, second: signal.Signals) -> None:
    with faulty(models, shutdown_seconds=600) as server, posting(server, HANGING) as [answer]:
        wait_until_admitted(server, 1)
        server.process.send_signal(first)
        while server.client.get("/health/ready").status_code == 200:
            time.sleep(0.01)
        assert server.process.poll() is None
        server.process.send_signal(second)
        assert server.process.wait(SOON) == 128 + second
        with pytest.raises(httpx.TransportError):
            answer.result()


@pytest.mark.parametrize("sent", [TERM, INT])
def test_a_signal_while_a_model_loads_that_cannot_be_interrupted(models: Path, sent: signal.Signals) -> None:
    (models / "endless").symlink_to(DEMO / NAME)
    with faulty(models, wait=False, shutdown_seconds=600) as server:
        assert server.client.get("/health/ready").status_code == 503
        refused = server.client.post("/v1/encode?model=endless", content=QUICK)
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "2")
        server.process.send_signal(sent)
        assert server.process.wait(SOON) == 0
        assert "Traceback" not in server.log


def test_a_load_that_does_not_end_is_cut_off(models: Path) -> None:
    with faulty(models, shutdown_seconds=2) as server:
        (models / "endless").symlink_to(DEMO / NAME)
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(server.client.post, "/v1/models/endless/load")
            with httpx.Client(base_url=server.client.base_url) as client:
                while client.get("/v1/models/endless").status_code == 404:
                    time.sleep(0.02)
                assert client.get("/health/ready").status_code == 200  # what comes later is not waited for
            server.process.send_signal(TERM)
            assert answer.result().status_code == 503
        assert server.process.wait(SOON) == 0


def test_clients_that_send_nothing_more_do_not_hold_it_up(models: Path) -> None:
    with serving(models, shutdown_seconds=3) as server, ExitStack() as stack:
        for part in (b"", b"GET /v1/mod", b"POST /v1/encode HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nxyz"):
            stack.enter_context(server.connect()).sendall(part)
        wait_until_admitted(server, 1)
        server.process.send_signal(TERM)
        assert server.process.wait(SOON) == 0


def test_a_client_that_never_reads_its_answer_does_not_hold_it_up(models: Path) -> None:
    with serving(models, shutdown_seconds=2) as server, server.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        body = wav(noise(60), subtype="PCM_16")  # 3000 frames as JSON: megabytes
        head = (
            f"POST /v1/encode?model={NAME}&layer=0&layer=1 HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        connection.sendall(head.encode() + body)
        assert connection.recv(12) == b"HTTP/1.1 200"
        server.process.send_signal(TERM)
        assert server.process.wait(SOON) == 0


def test_a_keep_alive_connection_does_not_hold_it_up(models: Path) -> None:
    with serving(models, shutdown_seconds=600) as server:
        assert server.client.get("/health/live").status_code == 200
        server.process.send_signal(TERM)
        assert server.process.wait(SOON) == 0


def test_an_engine_that_hangs_ends_the_process_for_its_supervisor(models: Path) -> None:
    with faulty(models, watchdog_seconds=5) as server, posting(server, HANGING, HANGING) as answers:
        wait_until_admitted(server, 2)
        for answer in answers:
            assert answer.result().status_code == 503
            assert answer.result().json()["error"]["code"] == "engine_hung"
        assert server.process.wait(SOON) == HUNG_STATUS
        [line] = [line for line in server.log.splitlines() if f"ends with status {HUNG_STATUS}" in line]
        assert f"{NAME} hangs, for 5 s" in line


def test_it_can_be_killed_and_started_again_at_once(models: Path) -> None:
    port = free_port()
    with faulty(models, port=port) as server, posting(server, HANGING) as [answer]:
        wait_until_admitted(server, 1)
        server.process.send_signal(signal.SIGKILL)
        with pytest.raises(httpx.TransportError):
            answer.result()
        server.process.wait()
    before = sorted(models.rglob("*"))
    with serving(models, port=port) as server:
        assert server.client.post(PATH, content=QUICK).status_code == 200
    assert sorted(models.rglob("*")) == before


def test_an_address_that_is_in_use_is_said_at_once(models: Path) -> None:
    (models / "endless").symlink_to(DEMO / NAME)  # it would load for longer than anybody waits
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        command = [sys.executable, "-c", PROGRAM, "serve", f"--models={models}", f"--port={taken.getsockname()[1]}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "address already in use" in done.stderr


def test_it_may_have_as_many_files_as_the_system_grants() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = before[1] if 0 <= before[1] < MAX_DESCRIPTORS else MAX_DESCRIPTORS
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
        for _ in range(2):
            allow_descriptors()
            assert resource.getrlimit(resource.RLIMIT_NOFILE) == (most, before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
