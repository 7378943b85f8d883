from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from engines.engine import Engine
from engines.errors import EngineError, OutOfMemoryError
from engines.runtimes import ConvSearch, RuntimeOptions
from server.calibration import convolutions, race
from server.calibration.convolutions import fastest
from server.calibration.timing import Timer
from tests.server.calibration.subjects import Clock, FakeSubject

FIRST_MEETING = 0.3  # seconds that an exhaustive search takes for a shape


class Searching(FakeSubject):
    """A shape that comes for the first time costs more."""

    first_meeting = 0.0

    def batch(self, length: float, count: int) -> None:
        met = self.__dict__.setdefault("met", set())
        if length not in met:
            self.clock.now += self.first_meeting
        met.add(length)
        super().batch(length, count)


class Gpu:
    """Loads an engine with one search at a time, each of which takes so many seconds for a second of audio."""

    def __init__(self, costs: Mapping[ConvSearch, float | EngineError], meeting: Mapping[ConvSearch, float]) -> None:
        self.costs, self.meeting = costs, meeting
        self.clock = Clock()
        self.opened: list[Searching] = []

    def open(self, search: ConvSearch) -> Searching:
        assert all(subject.closed for subject in self.opened), "two are loaded at a time"
        cost = self.costs[search]
        if isinstance(cost, EngineError):
            raise cost
        subject = Searching(self.clock, 1, 0.001, cost, device="cuda")
        subject.first_meeting = self.meeting.get(search, 0.0)
        self.opened.append(subject)
        return subject

    def fastest(self) -> ConvSearch:
        return fastest(self.open, 10.0, Timer(self.clock, lambda: 0.0), lambda step: None)


@pytest.mark.parametrize(
    ("default", "exhaustive", "meeting", "expected"),
    [
        (0.010, 0.010, 0.0, "heuristic"),
        (0.006, 0.010, 0.0, "default"),
        (0.010, 0.006, 0.0, "exhaustive"),
        (0.010, 0.006, FIRST_MEETING, "heuristic"),  # faster with shapes that it knows, and those are not what comes
        (0.0098, 0.0099, 0.0, "heuristic"),  # not by what matters
        (OutOfMemoryError("none"), 0.006, 0.0, "exhaustive"),
    ],
)
def test_the_search_that_is_fastest_with_new_lengths_is_chosen(
    default: float | EngineError, exhaustive: float | EngineError, meeting: float, expected: str
) -> None:
    gpu = Gpu({"heuristic": 0.010, "default": default, "exhaustive": exhaustive}, {"exhaustive": meeting})
    assert gpu.fastest() == expected
    assert all(subject.closed for subject in gpu.opened)
    assert gpu.clock.now < 12.0


def test_where_none_works_it_is_the_first() -> None:
    error = OutOfMemoryError("none")
    assert Gpu({"heuristic": error, "default": error, "exhaustive": error}, {}).fastest() == "heuristic"


def test_lengths_stay_within_what_the_model_takes() -> None:
    asked: list[float] = []

    class Short(Searching):
        def batch(self, length: float, count: int) -> None:
            asked.append(length)
            super().batch(length, count)

    def open_short(search: ConvSearch) -> Short:
        return Short(clock, 1, 0.001, 0.0001, longest=5.45)

    clock = Clock()
    fastest(open_short, 1.0, Timer(clock, lambda: 0.0), lambda step: None)
    assert max(asked) < 5.45
    assert len(set(asked)) == 4


@pytest.mark.parametrize(
    ("on_gpu", "asked", "expected"),
    [(False, "auto", None), (True, "auto", "default"), (True, "heuristic", None)],
)
def test_it_is_measured_on_a_gpu_unless_it_is_set(
    models: Path, monkeypatch: pytest.MonkeyPatch, on_gpu: bool, asked: ConvSearch, expected: str | None
) -> None:
    monkeypatch.setattr(race, "is_on_gpu", lambda runtime, options: on_gpu)
    monkeypatch.setattr(convolutions, "fastest", lambda *_: "default")
    options = RuntimeOptions("cpu", threads=1, conv_search=asked)
    measured = race.measure(models / "tiny-ctc", options, 1, 0.1)
    assert measured.calibration.conv_search == expected


def test_what_was_found_is_what_graphs_are_loaded_with(models: Path) -> None:
    engine = Engine(models / "tiny-ctc", options=RuntimeOptions("cpu", 1))
    engine.tune(1, engine._memory.row, "exhaustive")
    assert engine._options.conv_search == "exhaustive"
    engine.tune(1, engine._memory.row)
    assert engine._options.conv_search == "exhaustive"
