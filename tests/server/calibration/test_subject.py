from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engines.engine import Engine
from engines.errors import RuntimeUnavailableError
from engines.memory import RowMemory
from engines.runtimes import RuntimeOptions
from server.calibration.subject import EngineSubject

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


def test_what_is_closed_is_gone() -> None:
    subject = EngineSubject(ENGINES / "hubert-intent-english", OPTIONS)
    subject.close()
    with pytest.raises(RuntimeUnavailableError):
        subject.batch(1.0, 1)
