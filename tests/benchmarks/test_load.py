import asyncio
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import record, report
from benchmarks.load import drive
from benchmarks.load.client import Answer, Client, Request
from benchmarks.load.command import main
from benchmarks.load.process import serving
from benchmarks.load.requests import mixed, wav
from benchmarks.load.throughput import by_length
from benchmarks.records.endurance import Overload, Soak
from benchmarks.records.load import Latencies, Overhead, Throughput
from engines.manifest import Manifest

ENGINE = "demo/engines/hubert-intent-english"
SHORT = ["--lengths", "0.2,0.5"]


def run(tmp_path: Path, scenario: str, *options: str) -> Any:
    """Return what a scenario measured by way of its command."""
    output = tmp_path / "result.json"
    assert main([scenario, ENGINE, *options, "--cache", str(tmp_path), "--output", str(output)]) == 0
    found = record.read(output)
    assert "hubert-intent-english" in report.section(found)
    return found


def test_throughput(tmp_path: Path) -> None:
    found = run(
        tmp_path, "throughput", "--clips", "4", "--rounds", "2", "--seconds", "0", *SHORT, "--calibrate-seconds", "0.1"
    )
    assert isinstance(found, Throughput)
    [cell] = found.cells
    assert 0.8 <= cell.audio_seconds <= 2
    assert cell.ratio.value > 0
    assert min(cell.server, cell.alone, cell.batched) > 1
    assert 0 < cell.load.generator_cores < 1
    assert cell.load.server_cores > 0
    assert cell.promise == 0.8


def test_overhead(tmp_path: Path) -> None:
    found = run(tmp_path, "overhead", "--requests", "3", "--length", "0.5")
    assert isinstance(found, Overhead)
    assert {cell.answer_format for cell in found.cells} == {"json", "base64", "npy", "pooled"}
    for cell in found.cells:
        assert 0 < cell.inference.p50_ms < cell.latency.p50_ms
        assert 0 < cell.decoding.p50_ms < cell.added.p50_ms < cell.latency.p50_ms
        assert 0 < cell.serving.p50_ms < cell.added.p50_ms


def test_overload(tmp_path: Path) -> None:
    options = ["--seconds", "2", "--capacity-seconds", "1", "--deadline", "1", "--factor", "3"]
    found = run(tmp_path, "overload", *options, *SHORT)
    assert isinstance(found, Overload)
    assert found.requests == sum(found.statuses.values())
    assert found.statuses[200] > 0
    assert 0 < found.goodput < found.offered
    assert found.idle_before.p50_ms > 0


def test_soak(tmp_path: Path) -> None:
    found = run(tmp_path, "soak", "--requests", "60", "--connections", "2")
    assert isinstance(found, Soak)
    assert sum(found.statuses.values()) == 60
    assert found.marks[-1].requests == 60
    assert all(mark.resident_mib > 10 and mark.threads > 1 and mark.descriptors > 3 for mark in found.marks)
    assert math.isfinite(found.growth)


def test_a_server_that_does_not_start_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["overhead", ENGINE, "--set", "color=red", "--cache", str(tmp_path)]) == 1
    assert "did not become ready" in capsys.readouterr().err


def test_latency_counts_from_when_a_request_was_to_be_sent() -> None:
    """A server that stalls once holds up those that come meanwhile, and their latencies say so."""
    stall, rate = 0.5, 50.0

    async def test() -> list[drive.Sample]:
        free = asyncio.Lock()
        count = 0

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal count
            try:
                while await reader.readuntil(b"\r\n\r\n"):
                    async with free:
                        count += 1
                        await asyncio.sleep(stall if count == 5 else 0)
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nServer-Timing: queue;dur=1.5\r\n\r\nok")
            except (OSError, EOFError):
                writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            return await drive.open_loop(port, [Request.post("/", b"", 1.0, {})], rate, 1.0, seed=0)

    samples = drive.run(test)
    late = [sample for sample in samples if sample.latency > stall / 5]
    assert len(late) > 5  # a client that waits for each answer has one; on an idle machine there are twenty
    assert {sample.status for sample in samples} == {200}
    assert samples[0].timings == {"queue": 0.0015}


def test_a_connection_that_breaks_is_no_answer() -> None:
    async def test() -> Answer:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            return await Client(server.sockets[0].getsockname()[1]).ask(Request.post("/", b"", 0.0, {}))

    assert drive.run(test).status == 0


def test_the_arrivals_are_a_poisson_process() -> None:
    times = np.array(list(drive.arrivals(100.0, 50.0, seed=0)))
    gaps = np.diff(times)
    assert times.size == pytest.approx(5000, rel=0.05)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05)
    assert times.max() < 50


def test_clips_of_mixed_lengths() -> None:
    manifest = Manifest.read(Path(__file__).parents[2] / ENGINE)
    seconds = [len(clip) / manifest.sample_rate for clip in mixed(manifest, (1.0, 20.0), 50, seed=0)]
    assert 1 <= min(seconds) < 3
    assert 18 < max(seconds) <= 20
    assert wav(np.zeros(16, np.float32), 16_000).startswith(b"RIFF")


def test_offline_batches_keep_the_budget() -> None:
    clips = [np.zeros(length, np.float32) for length in (50, 10, 30, 20, 40)]
    assert [[len(clip) for clip in batch] for batch in by_length(clips, 60)] == [[10, 20], [30], [40], [50]]


def test_a_summary_of_nothing_can_be_written_and_read() -> None:
    nothing = Latencies.of([])
    assert math.isnan(nothing.p99_ms)
    assert math.isnan(Latencies.model_validate(json.loads(nothing.model_dump_json())).p99_ms)


def test_usage_is_that_of_the_process() -> None:
    folder = Path(__file__).parents[2] / ENGINE
    with serving({"one": folder}, 1, {"calibrate": "off"}) as server:
        usage = server.usage
    assert 0 < usage.cpu_seconds < 60
    assert 30e6 < usage.resident_bytes < 2e9
    assert usage.descriptors > 5
    assert usage.threads >= 2
