from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engines import warm
from engines.engine import Engine
from engines.errors import OutOfMemoryError
from engines.replicas import ReplicatedEngine
from engines.runtimes import RuntimeOptions

ENGINES = Path(__file__).parents[2] / "demo" / "engines"
ENCODER, WRITER = ENGINES / "hubert-ctc-english", ENGINES / "hubert-translate-english-german"


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Engine, str, int, float]]:
    """The engine, what was asked, clips and seconds of every batch, on hosts with GPUs."""
    batches: list[tuple[Engine, str, int, float]] = []

    def note(what: str) -> Any:
        def run(engine: Engine, clips: Any, *_: object) -> None:
            batches.append((engine, what, len(clips), len(clips[0]) / engine.manifest.sample_rate))

        return run

    for what in ("run", "start"):
        monkeypatch.setattr(Engine, what, note(what))
    for kind in (Engine, ReplicatedEngine):
        monkeypatch.setattr(kind, "device", "cuda")
    return batches


def test_batches_of_all_lengths_are_run(ran: list[tuple[Engine, str, int, float]]) -> None:
    engine = Engine(ENCODER, options=RuntimeOptions(batch_bytes=2**40))
    warm.warm_up(engine)
    assert [batch[1:] for batch in ran] == [("run", 30, 1.0), ("run", 6, 5.0), ("run", 2, 15.0), ("run", 1, 30.0)]


def test_memory_says_how_many(ran: list[tuple[Engine, str, int, float]]) -> None:
    warm.warm_up(Engine(ENCODER, options=RuntimeOptions(batch_bytes=100 * 2**20)))
    assert [rows for _, _, rows, _ in ran] == [3, 1, 1, 1]


def test_a_decoder_is_begun_with(ran: list[tuple[Engine, str, int, float]]) -> None:
    warm.warm_up(Engine(WRITER))
    assert {what for _, what, _, _ in ran} == {"start"}


def test_every_gpu_is_warmed_up(ran: list[tuple[Engine, str, int, float]]) -> None:
    engine = ReplicatedEngine(ENCODER, None, RuntimeOptions(device_ids=(0, 1)))
    warm.warm_up(engine)
    assert [each for each, *_ in ran] == [gpu.engine for gpu in engine.gpus for _ in warm.LENGTHS]


def test_what_does_not_fit_is_left_out(
    ran: list[tuple[Engine, str, int, float]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    note = Engine.run

    def run(engine: Engine, clips: Any, *rest: Any) -> Any:
        if len(clips[0]) > 100_000:
            raise OutOfMemoryError("full")
        return note(engine, clips, *rest)

    monkeypatch.setattr(Engine, "run", run)
    warm.warm_up(Engine(ENCODER))
    assert [seconds for *_, seconds in ran] == [1.0, 5.0]
    assert "of 240000 samples were not warmed up: full" in caplog.text


def test_a_cpu_needs_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine, "run", None)
    monkeypatch.setattr(Engine, "device", "cpu")
    warm.warm_up(Engine(ENCODER))
