from __future__ import annotations

from dataclasses import replace

import pytest

from engines.memory import UNMEASURED, RowMemory
from server.calibration import Calibration
from server.settings import Settings

FOUND = Calibration(3, 2, 16.0, 0.001, 0.02, 1e6, 2e3, "2026-01-01T00:00:00+00:00")


def test_where_nothing_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engines.host.cores", lambda: 5)
    default = Calibration.default()
    assert (default.threads, default.workers, default.batch_seconds) == (4, 1, 10.0)
    assert replace(default, batch_seconds=30.0) == Calibration.default(on_gpu=True)
    assert default.row == UNMEASURED
    assert default.measured is None
    assert "ms" not in str(default)


def test_what_the_operator_has_set_holds() -> None:
    assert FOUND.overridden(Settings()) == FOUND
    found = FOUND.overridden(Settings(threads=8, workers=1, batch_seconds=4.0, live_beams=6))
    assert found == replace(FOUND, threads=8, workers=1, batch_seconds=4.0, live_beams=6)


def test_workers_share_the_memory() -> None:
    assert FOUND.row == RowMemory(2e6, 4e3)


def test_other_threads_wait_for_the_next_load() -> None:
    loaded = replace(FOUND, threads=4, workers=1, batch_seconds=30.0)
    assert FOUND.live(loaded) == replace(FOUND, threads=4, workers=1)
    assert FOUND.live(replace(loaded, threads=3)) == FOUND


def test_it_can_be_read() -> None:
    said = "threads 3, workers 2, 16 s of audio in a batch, which takes 1.0 ms and 20.00 ms per second"
    assert str(FOUND) == said
    assert str(replace(FOUND, form="onnxruntime/int8")) == f"onnxruntime/int8, {said}"
