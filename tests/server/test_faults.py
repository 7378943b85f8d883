"""What happens when something breaks, against the real process; server/README.md has the table.

Nothing is lost but what the fault itself holds, and nothing hangs. Faults that need a process of their own to be looked
at closely stand with the module that deals with them; the table names them too.
"""

import re
import resource
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server.faulty import PROGRAM, poisoned
from tests.server.process import Server, noise, serving, until, wav

ROOT = Path(__file__).parents[2]
NAME = "hubert-intent-english"
PATH = f"/v1/encode?model={NAME}&pooling=mean"
CLIP = noise(0.5)
GOOD = wav(CLIP)
MANY = 8  # good clips that share a batch with one that is not
# It keeps the engine until all clips of a test wait, so that they run as one batch.
HOLD = wav(poisoned(CLIP, "hold"))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    (folder / NAME).symlink_to(ROOT / "demo" / "engines" / NAME)
    return folder


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Server]:
    with serving(models, program=PROGRAM, calibrate="off") as running:
        yield running


def post(server: Server, data: bytes, query: str = "") -> tuple[int, Any]:
    """Return the status, and the error's code or the vector."""
    response = server.client.post(PATH + query, content=data, timeout=60)
    content = response.json()
    return response.status_code, content["data"][0]["embedding"] if "data" in content else content["error"]["code"]


def post_together(server: Server, *bodies: bytes) -> list[tuple[int, Any]]:
    """Post all of them while the engine is busy."""
    with ThreadPoolExecutor(len(bodies)) as pool:
        with server.held(lambda: post(server, HOLD)) as held:
            answers = [pool.submit(post, server, data) for data in bodies]
            waiting = len(bodies) * len(CLIP) / 16_000
            until(lambda: server.metric("sonant_queue_audio_seconds") == pytest.approx(waiting))
        assert held.result()[0] == 200
        return [answer.result() for answer in answers]


def close_to(vector: list[float]) -> Any:
    return pytest.approx(vector, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("fault", ["raise", "nan"])
def test_an_engine_that_fails_on_one_clip(server: Server, fault: str) -> None:
    _, alone = post(server, GOOD)
    answers = post_together(server, *[GOOD] * MANY, wav(poisoned(CLIP, fault)))
    assert answers[MANY] == (500, "engine_failed")
    assert answers[:MANY] == [(200, close_to(alone))] * MANY
    assert post(server, GOOD) == (200, close_to(alone))


def test_a_batch_for_which_memory_is_short(server: Server) -> None:
    """The clip succeeds alone, and so do the others in smaller batches."""
    before = server.metric("sonant_batch_failures_total")
    answers = post_together(server, *[GOOD] * MANY, wav(poisoned(CLIP, "memory")))
    assert [status for status, _ in answers] == [200] * (MANY + 1)
    assert server.metric("sonant_batch_failures_total") > before


def test_a_clip_that_is_not_done_in_time(server: Server) -> None:
    with server.held(lambda: post(server, HOLD)) as held:
        assert post(server, GOOD, "&timeout=0.1") in [(504, "deadline_exceeded"), (429, "wait_too_long")]
    assert held.result()[0] == 200


def test_a_disk_that_is_full_under_load(server: Server) -> None:
    """Uploads of more than a megabyte are written to the disk, others are not."""
    large = {"file": ("a.wav", wav(noise(30)))}
    assert len(large["file"][1]) > 1024 * 1024
    limits = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        with ThreadPoolExecutor(2 * MANY) as pool:
            small = [pool.submit(post, server, GOOD) for _ in range(MANY)]
            refused = [pool.submit(server.client.post, PATH, files=large) for _ in range(MANY)]
            assert [answer.result()[0] for answer in small] == [200] * MANY
            for answer in refused:
                assert server.error(answer.result()) == (507, "storage_full", None)
    finally:
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, limits)
    assert server.client.post(PATH, files=large).status_code == 200


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 1.0], ids=["connected", "in the head", "in the body", "waiting"])
def test_a_client_that_leaves(server: Server, share: float) -> None:
    """What it has sent is dropped; nobody else waits for it."""
    before = server.metric("sonant_engine_audio_seconds_total")
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(GOOD)}\r\n\r\n".encode()
    sent = (head + GOOD)[: round(share * len(head + GOOD))]
    with server.held(lambda: post(server, HOLD)) as held:
        for _ in range(MANY):
            with server.connect() as connection:
                connection.sendall(sent)
                if share == 1.0:
                    until(lambda: server.metric("sonant_requests_in_progress") == 3)
            until(lambda: server.metric("sonant_requests_in_progress") == 2)  # the one that asks, and what is held
    assert held.result()[0] == 200
    assert post(server, GOOD)[0] == 200
    seconds = server.metric("sonant_engine_audio_seconds_total") - before
    assert seconds == pytest.approx(2 * len(CLIP) / 16_000)  # the one that was held and the last one


def test_a_client_that_leaves_while_its_answer_is_sent(server: Server) -> None:
    data = wav(noise(30))
    path = f"/v1/encode?model={NAME}"
    with server.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n".encode()
        connection.sendall(head + data)
        assert connection.recv(1024).startswith(b"HTTP/1.1 200")
    assert post(server, GOOD)[0] == 200


def test_a_runtime_that_crashes_takes_the_process_and_nothing_else(models: Path) -> None:
    with serving(models, program=PROGRAM, calibrate="off") as server:
        with pytest.raises(httpx.TransportError):
            post(server, wav(poisoned(CLIP, "crash")))
        assert server.process.wait(30) < 0
    with serving(models, program=PROGRAM, calibrate="off") as server:
        assert post(server, GOOD)[0] == 200


def test_the_table_names_what_there_is() -> None:
    page = (ROOT / "server" / "README.md").read_text(encoding="utf-8")
    table = page.partition("What happens when something breaks")[2].partition("\n## ")[0]
    named = re.findall(r"`(tests/\S+\.py)::(test_\w+)`", table)
    for path, name in named:
        assert re.search(rf"^(?:async )?def {name}\(", (ROOT / path).read_text(), re.MULTILINE), f"{path}::{name}"
    here = set(re.findall(r"^def (test_\w+)", Path(__file__).read_text(), re.MULTILINE))
    missing = here - {name for _, name in named} - {"test_the_table_names_what_there_is"}
    assert not missing
