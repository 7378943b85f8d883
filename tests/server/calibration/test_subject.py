from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engines.engine import Engine
from engines.errors import EngineTamperedError, RuntimeUnavailableError
from engines.memory import RowMemory
from engines.runtimes import RuntimeOptions
from server.calibration.subject import STEPS, EngineSubject
from tests.server.models.two_forms import break_it, place

ENGINES = Path(__file__).parents[3] / "demo" / "engines"
OPTIONS = RuntimeOptions("cpu", 1)


@pytest.mark.parametrize("name", sorted(path.name for path in ENGINES.iterdir()))
def test_every_kind_of_engine_can_be_measured(name: str) -> None:
    subject = EngineSubject(ENGINES / name, OPTIONS)
    assert subject.device == "cpu"
    assert subject.weights > 100_000
    subject.clips(min(1.0, subject.longest), 3, 2)
    peak = subject.memory(lambda: subject.batch(subject.longest, 2))
    assert peak is None or peak > 100_000
    before = subject.max_rows(subject.longest)
    subject.learn(RowMemory(1.0, 0.0))
    assert subject.max_rows(subject.longest) > before
    subject.close()


def test_clips_of_a_decoder_are_written_about(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []
    step = Engine.step

    def counted(*arguments: Any) -> Any:
        steps.append(1)
        return step(*arguments)

    monkeypatch.setattr(Engine, "step", counted)
    subject = EngineSubject(ENGINES / "hubert-translate-english-german", OPTIONS)
    subject.batch(1.0, 2)
    assert not steps
    subject.clips(1.0, 2, 2)
    assert len(steps) == 24


def test_clips_are_written_about_again_from_their_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    starts, rows = list[int](), list[int]()
    start, step = Engine.start, Engine.step

    def started(engine: Engine, clips: Any, beams: int) -> Any:
        starts.append(len(clips))
        return start(engine, clips, beams)

    def stepped(engine: Engine, state: Any, *arguments: Any) -> Any:
        rows.append(state.clips if state.steps < STEPS else -1)
        return step(engine, state, *arguments)

    monkeypatch.setattr(Engine, "start", started)
    monkeypatch.setattr(Engine, "step", stepped)
    subject = EngineSubject(ENGINES / "hubert-translate-english-german", OPTIONS)
    for _ in range(3):
        subject.steps(1.0, 2)
    assert starts == [2]
    assert rows == [2] * 3 * STEPS


def test_on_a_gpu_a_run_takes_what_the_arena_has_grown_by_since_the_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """It grows by less with a longer batch if a shorter one has been there before."""
    free = iter([1000, 900, 700, 700])
    monkeypatch.setattr("engines.runtimes.cuda.free_memory", lambda number: next(free))
    monkeypatch.setattr(Engine, "load", lambda *_: SimpleNamespace(device="cuda"))
    subject = EngineSubject(ENGINES / "hubert-intent-english", OPTIONS)
    assert [subject.memory(lambda: None) for _ in range(3)] == [100, 300, 300]


def test_no_other_form_stands_in_for_the_one_that_is_measured(tmp_path: Path) -> None:
    folder = place(tmp_path / "engine")
    options = RuntimeOptions("cpu", 1, max_error=1.0)
    subject = EngineSubject(folder, options, "onnxruntime/fp32")
    subject.batch(1.0, 1)
    assert set(subject._engine.checks) == {"fp32"}
    subject.close()
    break_it(folder)
    with pytest.raises(EngineTamperedError):
        EngineSubject(folder, options, "onnxruntime/int8")


def test_what_is_closed_is_gone() -> None:
    subject = EngineSubject(ENGINES / "hubert-intent-english", OPTIONS)
    subject.close()
    with pytest.raises(RuntimeUnavailableError):
        subject.batch(1.0, 1)
