"""Over ONNX Runtime's CPU, whose runs of one shape stand in for replays: the same buffers, bindings and checks."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from engines.batch import run_batch
from engines.engine import Engine
from engines.runtimes.onnxruntime import captured
from engines.runtimes.onnxruntime.captured import CapturedSession, bucket
from engines.runtimes.onnxruntime.session import OnnxSession
from engines.verify import error
from tests.engines.runtimes.driver import Driver, put
from tests.support import noise

DEMO = Path(__file__).parents[4] / "demo" / "engines" / "hubert-ctc-english"
OUTPUTS = [output for output in Engine(DEMO).manifest.outputs if output.name in ("logits", "pooled")]
BATCHES = [[noise(9000, 1), noise(4000, 2), noise(8999, 3)], [noise(8900, 4), noise(8800, 5), noise(500, 6)]]


class Replaying:
    """A session that notes its runs; where it is `stale`, a replay reads what it was captured with."""

    def __init__(self, session: Any) -> None:
        self.session, self.graphs, self.threads, self.stale = session, list[str](), set[int](), False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.session, name)

    def run_with_iobinding(self, binding: Any, options: Any) -> None:
        graph = options.get_run_config_entry(captured.GRAPH_ID)
        self.threads.add(threading.get_ident())
        self.graphs.append(graph)
        if not (self.stale and self.graphs.count(graph) > 1 and graph != str(captured.NO_GRAPH)):
            self.session.run_with_iobinding(binding)


class OverCpu(CapturedSession):
    device = "cpu"


@pytest.fixture(scope="module")
def loaded() -> Any:
    return onnxruntime.InferenceSession(str(DEMO / Engine(DEMO).full_graph.file), providers=["CPUExecutionProvider"])


@pytest.fixture
def replaying(loaded: Any, monkeypatch: pytest.MonkeyPatch) -> Replaying:
    put(monkeypatch, Driver())
    return Replaying(loaded)


def test_lengths_become_few_by_little_padding() -> None:
    assert [bucket(samples) for samples in (1, 7, 8, 9, 15, 16, 17, 400)] == [1, 7, 8, 9, 15, 16, 18, 416]
    assert all(0 <= bucket(samples) / samples - 1 < 0.125 for samples in range(1, 5000))
    assert len({bucket(samples) for samples in range(16_000, 480_000)}) < 45


def test_what_is_replayed_is_what_a_plain_run_gives(loaded: Any, replaying: Replaying) -> None:
    session = OverCpu(replaying, 0)
    for clips in BATCHES:
        rows = run_batch(session, clips, OUTPUTS, padding=float("nan"))
        for row, truth in zip(rows, run_batch(OnnxSession(loaded), clips, OUTPUTS), strict=True):
            assert all(error(row[name], truth[name]) <= 1e-5 for name in truth)
    plain = str(captured.NO_GRAPH)
    # The batch as it came, the size of the buffers, capturing, checking; then one run for the next batch.
    assert replaying.graphs == [plain, plain, *["1"] * (captured.RUNS + 1), "1"]
    assert len(replaying.threads) == 1
    assert threading.get_ident() not in replaying.threads


def test_other_outputs_and_shapes_are_captured_apart(replaying: Replaying, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captured, "MAX_SHAPES", 2)
    session = OverCpu(replaying, 0)
    run_batch(session, BATCHES[0], OUTPUTS)
    run_batch(session, BATCHES[0], OUTPUTS[:1])
    assert set(replaying.graphs) == {"-1", "1", "2"}
    replaying.graphs.clear()
    run_batch(session, BATCHES[0][:1], OUTPUTS)  # there are no more
    assert replaying.graphs == ["-1"]


def test_a_replay_that_is_wrong_is_found_at_once(
    loaded: Any, replaying: Replaying, caplog: pytest.LogCaptureFixture
) -> None:
    replaying.stale = True
    session = OverCpu(replaying, 0)
    for clips in BATCHES:
        rows = run_batch(session, clips, OUTPUTS)
        for row, truth in zip(rows, run_batch(OnnxSession(loaded), clips, OUTPUTS), strict=True):
            assert all(error(row[name], truth[name]) <= 1e-5 for name in truth)
    assert "CUDA graphs are not used any more: replaying (4, 9216) is wrong by" in caplog.text
    assert replaying.graphs[-1] == "-1"


def test_a_capture_that_fails_fails_no_batch(
    replaying: Replaying, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("CUDA failure 900: operation not permitted when stream is capturing")

    session = OverCpu(replaying, 0)
    monkeypatch.setattr(session, "_new_shape", fail)
    with caplog.at_level(logging.WARNING):
        rows = run_batch(session, BATCHES[0], OUTPUTS)
    assert all(np.isfinite(row["logits"]).all() for row in rows)
    assert "capturing (4, 9216) fails: CUDA failure 900" in caplog.text
