"""`sonant bench load closed` and `open`: what is asked, what is kept, and that the figures are sane."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from benchmarks import markdown, record
from benchmarks.charts.chart import Lines
from benchmarks.charts.draw import draw
from benchmarks.load import measure
from benchmarks.load.command import main
from benchmarks.load.open_loop import STEPS, search
from benchmarks.load.session import Measured
from benchmarks.records.load import Latencies, Load
from benchmarks.records.serving import HEADER, ClosedLoop, Figures, OpenLoop

FIGURES = Figures(
    stable=True,
    windows=3,
    seconds=30.0,
    requests=100,
    offered=4.0,
    offered_audio=20.0,
    statuses={200: 90, 429: 6, 503: 1, 500: 2, -1: 1},
    wrong=4,
    objective=1.0,
    goodput=15.0,
    goodput_requests=3.0,
    throughput=16.0,
    within=0.8,
    latency=Latencies(p50_ms=100.0, p95_ms=200.0, p99_ms=300.0),
    load=Load(server_cores=math.nan, generator_cores=0.1),
    batching=None,
    checked=5,
    error=1e-6,
)


class Handler(BaseHTTPRequestHandler):
    """A vector for every WAV file."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.reply(200 if self.path == "/embed" and body.startswith(b"RIFF") else 400, {"embedding": [1.0, 2.0]})

    def do_GET(self) -> None:
        self.reply(404, {})

    def reply(self, status: int, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None: ...  # noqa: A002


@pytest.fixture
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def check(figures: Figures, *, batched: bool) -> None:
    assert figures.requests == sum(figures.statuses.values()) == figures.statuses[200] > 0
    assert figures.wrong == 0
    assert 0 < figures.goodput <= figures.throughput <= figures.offered_audio * 1.0001
    assert 0 < figures.goodput_requests <= figures.offered * 1.0001
    assert figures.within == 1
    assert 0 < figures.latency.p50_ms <= figures.latency.p95_ms <= figures.latency.p99_ms <= 10_000
    assert figures.checked > 0
    assert figures.error < 1e-4
    assert figures.load.generator_cores > 0
    assert (figures.batching is not None) is batched
    if figures.batching:
        assert 0 <= figures.batching.padded_share <= 1
        assert figures.batching.clips >= 1
        assert figures.load.server_cores > 0


def test_an_open_loop_on_an_engine(tmp_path: Path) -> None:
    output = tmp_path / "open.json"
    assert main(["open", "--quick", "--cache", str(tmp_path), "--output", str(output)]) == 0
    found = record.read(output)
    assert isinstance(found, OpenLoop)
    [capacity] = found.capacities.values()
    assert [cell.load / capacity for cell in found.cells] == pytest.approx([0.3, 0.6])
    for cell in found.cells:
        check(cell.figures, batched=True)
        assert cell.figures.offered == pytest.approx(cell.load)
    assert "hubert-intent-english" in markdown.section(found)
    [chart] = found.charts
    assert isinstance(chart, Lines)
    assert chart.name == "open-loop-hubert-intent-english-0-2-0-5"
    assert [series.name for panel in chart.panels for series in panel.series] == ["p50", "p99", "goodput", "offered"]
    assert "<svg" in draw(chart)


def test_a_closed_loop_on_any_server(tmp_path: Path, url: str) -> None:
    output = tmp_path / "closed.json"
    options = ["--url", url, "--adapter", "raw", "--option", "path=/embed", "--name", "other", "--output", str(output)]
    assert main(["closed", "--quick", *options]) == 0
    found = record.read(output)
    assert isinstance(found, ClosedLoop)
    assert [(cell.model, cell.load) for cell in found.cells] == [("other", 1), ("other", 3)]
    for cell in found.cells:
        check(cell.figures, batched=False)
        assert math.isnan(cell.figures.load.server_cores)
    text = markdown.section(found)
    assert "A server that ran already, asked as raw (path=/embed)" in text
    [chart] = found.charts
    assert "<svg" in draw(chart)
    assert list(tmp_path.iterdir()) == [output]


def test_the_processor_time_of_a_running_server(tmp_path: Path, url: str) -> None:
    output = tmp_path / "closed.json"
    options = ["--url", url, "--adapter", "raw", "--option", "path=/embed", "--clients", "1", "--pid", str(os.getpid())]
    assert main(["closed", "--quick", *options, "--output", str(output)]) == 0
    found = record.read(output)
    assert isinstance(found, ClosedLoop)
    [cell] = found.cells
    assert cell.figures.load.server_cores > 0


def test_what_was_measured_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "closed.json"
    measured: list[int] = []

    def closed(*_: object, clients: int, **__: object) -> Measured:
        if len(measured) == 2 and clients == 7:
            raise KeyboardInterrupt
        measured.append(clients)
        return Measured(FIGURES, {}, {})

    monkeypatch.setattr(measure, "closed", closed)
    command = ["closed", "--quick", "--url", "http://127.0.0.1:1", "--clients", "2,5,7", "--output", str(output)]
    with pytest.raises(KeyboardInterrupt):
        main(command)
    assert not output.exists()
    measured.append(0)
    assert main([*command, "--seed", "1"]) == 0  # another measurement
    assert measured == [2, 5, 0, 2, 5, 7]
    assert main(command) == 0
    assert measured[6:] == [2, 5, 7]  # nothing is left of the first


def test_an_interrupted_measurement_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "open.json"
    measured: list[float] = []

    def closed(*_: object, **__: object) -> Measured:
        measured.append(0.0)
        return Measured(FIGURES, {}, {})

    def open_(*_: object, rate: float, **__: object) -> Measured:
        if len(measured) == 2:
            measured.append(-1.0)
            raise ValueError("the server is gone")
        measured.append(rate)
        return Measured(FIGURES, {}, {})

    monkeypatch.setattr(measure, "closed", closed)
    monkeypatch.setattr(measure, "open_", open_)
    command = ["open", "--quick", "--url", "http://127.0.0.1:1", "--shares", "0.5,1,2", "--output", str(output)]
    assert main(command) == 1
    assert not output.exists()
    assert main(command) == 0
    capacity = 2 * measured[1]
    assert measured == [0.0, 0.5 * capacity, -1.0, capacity, 2 * capacity]
    assert list(tmp_path.iterdir()) == [output]


@pytest.mark.parametrize("limit", [0.3, 1.7, 4.0, 33.0])
def test_the_highest_rate_is_found(limit: float) -> None:
    tried: dict[float, bool] = {}
    while (rate := search(tried, start=4.0)) is not None:
        assert rate not in tried
        tried[rate] = rate <= limit
    assert len(tried) <= STEPS
    assert max(rate for rate, meets in tried.items() if meets) == pytest.approx(limit, rel=0.12)


def test_a_search_ends_where_no_rate_is_borne() -> None:
    tried: dict[float, bool] = {}
    while (rate := search(tried, start=4.0)) is not None:
        tried[rate] = False
    assert len(tried) == STEPS


def test_the_figures_of_a_table() -> None:
    assert FIGURES.refused == 7
    assert FIGURES.failed == 7  # 500, no answer, and four that are wrong
    assert not FIGURES.meets
    cells = dict(zip(HEADER, FIGURES.cells, strict=True))
    assert (cells["padded %"], cells["cores"], cells["generator"], cells["in time %"]) == ("", "", "0.10", "80.0")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--url", "https://example.org"], "not of the form http://host:port"),
        (["--url", "http://127.0.0.1:1/v1"], "not of the form http://host:port"),
        (["--url", "http://127.0.0.1:1", "--set", "workers=2"], "not with --url"),
        (["--url", "http://127.0.0.1:1", "--pid", "999999999"], "no such process"),
        (["--url", "http://127.0.0.1:1", "--option", "color=red"], "no option color"),
        (["--url", "http://127.0.0.1:1", "--windows", "2"], "at least 3 windows"),
        (["--url", "http://127.0.0.1:1"], "the status 0"),
        (["--name", "mine"], "they need --url"),
    ],
)
def test_what_cannot_be_measured(options: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["closed", "--clips", "2", "--lengths", "0.1,0.2", *options]) == 1
    assert words in capsys.readouterr().err
