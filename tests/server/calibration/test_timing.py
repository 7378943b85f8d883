from __future__ import annotations

from collections.abc import Callable

import pytest

from engines.errors import OutOfMemoryError
from server.calibration.timing import ROUNDS, Timer
from tests.server.calibration.subjects import Clock


def taking(clock: Clock, seconds: float) -> Callable[[], None]:
    def run() -> None:
        clock.now += seconds

    return run


def fail() -> None:
    raise OutOfMemoryError("no memory")


def test_calls_are_timed_in_turn() -> None:
    clock = Clock()
    times = Timer(clock, lambda: 0.0).interleave([taking(clock, 1.0), taking(clock, 2.0)], 1000.0, 1)
    assert times.shape == (ROUNDS, 2)
    assert times[0].tolist() == [1.0, 2.0]


def test_what_others_took_does_not_count() -> None:
    clock = Clock()
    times = Timer(clock, lambda: clock() / 4).interleave([taking(clock, 1.0)], 0.0, 1)
    assert times.tolist() == [[0.75]]
    times = Timer(clock, lambda: clock() * 4).interleave([taking(clock, 1.0)], 0.0, 1)
    assert times.tolist() == [[pytest.approx(0.01)]]  # a call takes something itself


def test_what_there_is_no_time_for_is_left_out() -> None:
    clock = Clock()
    calls = [taking(clock, 1.0)] * 4
    assert Timer(clock, lambda: 0.0).interleave(calls, 10.0, 1).shape[1] == 2
    assert Timer(clock, lambda: 0.0).interleave(calls, 0.0, 3).shape == (1, 3)


def test_what_finds_no_memory_is_left_out_unless_it_is_wanted() -> None:
    clock = Clock()
    calls = [taking(clock, 1.0), fail, taking(clock, 1.0)]
    assert Timer(clock, lambda: 0.0).interleave(calls, 1000.0, 1).shape[1] == 1
    with pytest.raises(OutOfMemoryError):
        Timer(clock, lambda: 0.0).interleave(calls, 1000.0, 2)
