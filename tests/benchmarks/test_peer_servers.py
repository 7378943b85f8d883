from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import machine, markdown, recipes, record
from benchmarks.base import Run
from benchmarks.load.client import Answer, Request
from benchmarks.load.process import tree
from benchmarks.peers import environments
from benchmarks.peers.command import main
from benchmarks.peers.servers import command, process
from benchmarks.peers.servers.asking import Padded
from benchmarks.peers.servers.contestants import Contestant
from benchmarks.peers.servers.process import Running, ServerFailedError
from benchmarks.peers.servers.rounds import Load, Rounds
from benchmarks.peers.servers.scripts.encoder import Encoder
from benchmarks.records.load import Latencies
from benchmarks.records.load import Load as Cores
from benchmarks.records.peer_servers import PeerServers, Role, Server, Turn
from tests.support import noise

FIRST = Request.post("/encode", b"", 0.0, {})
RUN = Run(
    model="tiny",
    parameters=1,
    threads=1,
    seed=0,
    date="2026-01-01",
    commit=None,
    machine=machine.describe(),
    versions={},
)
CLIPS = tuple(noise(samples, seed) for seed, samples in enumerate((800, 1600, 1200, 2400)))
TRUTHS = np.array([[1.0, -2.0, 3.0], [0.5, 0.25, -1.0], [0.0, 1.0, 0.0], [2.0, 2.0, -4.0]], np.float32)


def options(*given: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_options(parser)
    return parser.parse_args(["--seconds", "0.2", "--clients", "2", "--rounds", "2", *given])


def server(name: str, role: Role, *, reduced: bool = False) -> Server:
    return Server(name=name, about=name, role=role, reduced=reduced, computes="torch/fp32")


def turn(name: str, goodput: float, index: int = 0, error: float = 1e-7, **others: Any) -> Turn:
    given: dict[str, Any] = {
        "server": name,
        "load": "speech",
        "loop": "closed",
        "round": index,
        "ready_seconds": 1.0,
        "seconds": 10.0,
        "offered": goodput,
        "goodput": goodput,
        "within": 1.0,
        "requests": 4,
        "statuses": {200: 4},
        "wrong": 0,
        "latency": Latencies.of([1.0]),
        "cores": Cores(server_cores=1.0, generator_cores=0.01),
        "padded_share": None,
        "errors": (error / 2, error),
        "cosine": 1.0,
    }
    return Turn(**{**given, **others})


def result(*turns: Turn) -> PeerServers:
    servers = (
        *(server("sonant", "sonant"), server("sonant-reduced", "sonant", reduced=True), server("clips", "clips")),
        *(server("clips-reduced", "clips", reduced=True), server("onnx", "peer")),
        *(server("litserve", "padding"), server("mosec", "padding")),
    )
    return PeerServers(
        run=RUN,
        key="",
        clients=2,
        clips=4,
        objective=1.0,
        max_error=0.2,
        share=0.5,
        loads={"speech": "2 to 20 s"},
        servers=servers,
        turns=turns,
    )


@pytest.mark.usefixtures("results")
def test_sonant_next_to_transformers(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "servers.json"
    told = ["servers", "--quick", "--cache", str(cache), "--output", str(output)]
    assert main(told) == 0
    found = record.read(output)
    assert isinstance(found, PeerServers)
    assert [one.name for one in found.servers] == ["sonant", "transformers"]
    assert [(turn.server, turn.loop) for turn in found.turns] == [("sonant", "closed"), ("transformers", "closed")]
    for one in found.turns:
        assert one.statuses.keys() == {200}
        assert one.failed == 0
        assert 0 <= one.errors[0] <= one.errors[1] < 1e-4
        assert one.goodput > 0
        assert one.cores.server_cores > 0
        assert one.ready_seconds > 0
    assert "versions" in found.model_dump()["servers"][0]
    assert "transformers" in markdown.section(found)

    def start(*_: object) -> None:
        raise AssertionError("it was measured already")

    monkeypatch.setattr(process, "running", start)
    monkeypatch.setattr("benchmarks.peers.servers.contestants.serving", start)
    assert main(told) == 0
    assert record.read(output) == found


def test_a_promise_is_about_the_best_that_pads_and_about_every_peer() -> None:
    turns = [
        *(turn("sonant", goodput, index) for index, goodput in enumerate((10.0, 12.0, 11.0))),
        *(turn("clips", goodput, index) for index, goodput in enumerate((10.0, 12.5, 11.0))),
        *(turn("sonant-reduced", 30.0, index) for index in range(3)),
        *(turn("onnx", 9.0, index) for index in range(3)),
        *(turn("litserve", goodput, index, error=0.4) for index, goodput in enumerate((5.0, 6.0, 5.5))),
        *(turn("mosec", 8.0, index, error=0.3) for index in range(3)),
    ]
    found = result(*turns)
    best = found.best_padding("speech")
    assert best is not None
    assert best.name == "mosec"
    ratio = found.ratio("sonant", "litserve", "speech")
    assert ratio is not None
    assert ratio.value == pytest.approx(2.0)
    assert ratio.high - ratio.low == pytest.approx(0.0)  # pairs do not drift
    padding, clips, every, exact = found.promises
    assert padding.kept  # 11 / 8
    assert "mosec, whose error is 3.0e-01" in padding.found
    assert clips.kept
    assert "1.00 (0.96 to 1.00), clips" in clips.found
    assert every.kept
    assert "3.33 (3.33 to 3.33), onnx" in every.found
    assert exact.kept
    missed = result(*(turn.model_copy(update={"goodput": 9.0}) if turn.server == "mosec" else turn for turn in turns))
    assert [promise.kept for promise in missed.promises] == [False, True, True, True]
    assert "MISSED" in missed.summary
    header, rows = found.table
    assert {len(row) for row in rows} == {len(header)}
    assert [finding.kind for finding in found.findings] == ["gain", "gain"]
    assert [chart.name for chart in found.charts] == ["peer-servers-tiny-speech", "peer-servers-tiny-speech-error"]


def test_what_failed_counts_and_is_told() -> None:
    broken = turn("onnx", 0.0, statuses={200: 1, 0: 2, 504: 1}, wrong=1, errors=(math.nan, math.nan))
    assert broken.failed == 4
    found = result(turn("sonant", 10.0), broken)
    assert found.ratio("sonant", "onnx", "speech") is None
    assert any("4 of 4" in row for row in found.table[1])
    assert record._ADAPTER.validate_json(found.model_dump_json()) is not None


@contextmanager
def answering(answers: dict[int, list[float]]) -> Iterator[int]:
    """Serve the vectors that `answers` has for bodies of so many bytes."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            samples = (len(body) - 44) // 2  # behind the head of a WAV file
            told = {"embedding": answers[len(body)], "samples": samples, "longest": 2 * samples}
            self._answer(json.dumps(told).encode())

        def do_GET(self) -> None:
            self._answer(b"")

        def _answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as served:
        served.daemon_threads = True
        thread = threading.Thread(target=served.serve_forever, args=(0.01,))
        thread.start()
        yield served.server_address[1]
        served.shutdown()
        thread.join()


def contestant(name: str, truths: np.ndarray, started: list[str]) -> Contestant:
    adapter = Padded()
    answers = {len(adapter.request(clip, 16_000).body): row.tolist() for clip, row in zip(CLIPS, truths, strict=True)}

    @contextmanager
    def start(first: Request) -> Iterator[Running]:
        assert len(first.body) == min(answers)
        started.append(name)
        with answering(answers) as port:
            yield Running(port, os.getpid(), 0.5)

    return Contestant(server(name, "padding"), lambda _: Padded(), start)


def test_servers_take_turns_and_one_that_fails_stays_out(tmp_path: Path) -> None:
    started: list[str] = []

    @contextmanager
    def fail(first: Request) -> Iterator[Running]:
        raise ServerFailedError("it ended with status 1: no such model")
        yield

    off = TRUTHS + np.array([0.0, 0.4, 0.0], np.float32)
    several = [
        contestant("mosec", TRUTHS, started),
        Contestant(server("onnx", "peer"), lambda _: Padded(), fail),
        contestant("litserve", off, started),
    ]
    arguments = options("--output", str(tmp_path / "servers.json"))
    measured = Rounds(several, [Load("speech", CLIPS, TRUTHS)], 16_000, result(), arguments).measured()
    assert started == ["mosec", "litserve", "litserve", "mosec", "mosec", "litserve"]  # and an open loop
    exact, wrong = (measured.of(name, "speech")[1] for name in ("mosec", "litserve"))
    assert exact.errors == (0.0, 0.0)
    assert list(wrong.errors) == pytest.approx([0.2666667, 0.4])
    assert (exact.requests, exact.failed) == (4, 0)
    assert exact.padded_share == pytest.approx(0.5)
    assert exact.offered == pytest.approx(sum(map(len, CLIPS)) / 16_000 / exact.seconds)
    assert measured.of("mosec", "speech", "open")[0].within == 1.0
    assert "onnx: it ended with status 1: no such model" in measured.summary
    assert record.read(tmp_path / "servers.json") == measured


def test_padding_moves_the_answers_of_transformers(cache: Path) -> None:
    encoder = Encoder(str(recipes.make("tiny", cache / "checkpoints", lambda _: None)), 1)
    short, long_ = noise(4000, 1), noise(8000, 2)
    alone = encoder.alone(short).mean(0)
    padded, other = encoder.padded([short, long_])
    assert np.abs(np.array(padded["embedding"]) - alone).max() > 1e-2 * np.abs(alone).max()
    assert np.array(other["embedding"]) == pytest.approx(encoder.alone(long_).mean(0), abs=1e-5)
    assert (padded["samples"], padded["longest"]) == (4000, 8000)


def test_a_server_that_does_not_start_says_why() -> None:
    with (
        pytest.raises(ServerFailedError, match=r"it ended with status 1: .*No module named .*nobody"),
        process.running(environments.own(), "nobody", (), 1, {}, FIRST, 30.0),
    ):
        pass


def test_a_server_that_does_not_answer_is_given_up(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as silent:
        assert not process.answers(silent, process.free_port(), FIRST, time.monotonic() + 0.3)
        process.end(silent)
    assert silent.returncode != 0


def test_what_a_server_has_started_ends_with_it() -> None:
    script = "trap '' TERM; setsid sleep 60 & sleep 60 & wait"  # one of them in a session of its own
    with subprocess.Popen(["sh", "-c", f"({script}) & exec sleep 60"], start_new_session=True) as leader:
        deadline = time.monotonic() + 20
        while len(family := list(tree(leader.pid))) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(family) == 4
        process.end(leader)
    while (left := [pid for pid in family if is_running(pid)]) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert left == []


def is_running(pid: int) -> bool:
    """Whether there is such a process, which nobody may have waited for yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_share_of_nothing_is_nothing() -> None:
    adapter = Padded()
    assert adapter.padded_share == 0.0
    told = b'{"embedding": [1.0], "samples": 300, "longest": 400}'
    assert adapter.result(Answer(200, {}, told)) == np.array([1.0], np.float32)
    assert adapter.padded_share == pytest.approx(0.25)


def test_names_are_in_the_order_of_the_catalogue() -> None:
    assert command.names("onnx,sonant") == ("sonant", "onnx")
    with pytest.raises(argparse.ArgumentTypeError, match="triton"):
        command.names("sonant,triton")
    assert command.distributions("speech,mixed") == command.LOADS
