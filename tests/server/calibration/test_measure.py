from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from engines.errors import OutOfMemoryError
from engines.memory import UNMEASURED, RowMemory
from server.calibration.measure import Measured, Measurement
from server.calibration.timing import Timer
from tests.server.calibration.subjects import Clock, FakeSubject

CPU: dict[str, Any] = {"fixed": 0.0002, "per_second": 0.01}
GPU: dict[str, Any] = {"fixed": 0.02, "per_second": 0.001, "device": "cuda"}


class Bench:
    """Measures fakes, and counts what it opened."""

    def __init__(self, taken: float = 0.0, **cost: Any) -> None:
        """Of the time, others have `taken` a share."""
        self.clock = Clock()
        self.taken = taken
        self.cost = cost
        self.opened: list[FakeSubject] = []
        self.said: list[str] = []

    def open(self, threads: int) -> FakeSubject:
        self.opened.append(FakeSubject(self.clock, threads, **self.cost))
        return self.opened[-1]

    def measure(self, usable: int = 1, seconds: float = 60.0, threads: int = 0, workers: int = 0) -> Measured:
        held_up = lambda: self.clock() * self.taken  # noqa: E731
        measurement = Measurement(self.open, usable, seconds, Timer(self.clock, held_up), self.said.append)
        return measurement.run(threads, workers)


def test_a_cpu_finds_that_batches_gain_nothing() -> None:
    found = Bench(**CPU).measure().calibration
    assert (found.threads, found.workers, found.batch_seconds) == (1, 1, 1.0)
    assert found.fixed_seconds == pytest.approx(0.0002, rel=0.1)
    assert found.seconds_per_second == pytest.approx(0.01, rel=0.01)
    assert found.measured is not None


def test_a_gpu_finds_how_large_a_batch_must_be() -> None:
    found = Bench(**GPU).measure(usable=8).calibration
    assert 100 < found.batch_seconds <= 512
    assert found.fixed_seconds == pytest.approx(0.02, rel=0.01)
    assert found.seconds_per_second == pytest.approx(0.001, rel=0.01)
    assert found.threads == 8


def test_a_host_that_is_slowed_down_now_and_then_finds_the_same() -> None:
    """Each seventh call takes three times as long, and the host becomes slower all the time."""
    number = itertools.count()

    def noise() -> float:
        index = next(number)
        return (1 + index / 5000) * (3.0 if index % 7 == 0 else 1.0)

    quiet, noisy = Bench(**GPU).measure().calibration, Bench(**GPU, noise=noise).measure().calibration
    assert 0.5 <= noisy.batch_seconds / quiet.batch_seconds <= 2
    assert Bench(**CPU, noise=noise).measure().calibration.batch_seconds == 1.0


def test_what_others_took_of_the_processor_is_no_cost() -> None:
    found = Bench(taken=0.75, **CPU).measure().calibration
    assert found.seconds_per_second == pytest.approx(0.0025, rel=0.01)


def test_memory_is_measured() -> None:
    found = Bench(**CPU).measure()
    assert found.calibration.bytes_per_second == pytest.approx(2_000_000, rel=0.01)
    assert found.calibration.bytes_per_square_second == pytest.approx(50_000, rel=0.01)


def test_rows_too_long_for_the_memory_are_not_tried() -> None:
    """What two of 7.5 s took says that two of 15 s take more than there is."""
    bench = Bench(**CPU, row=RowMemory(60_000_000, 5_000_000))
    found = bench.measure().calibration
    assert bench.opened[0].measured == pytest.approx([2 * 3.75, 2 * 7.5])
    assert found.bytes_per_second == pytest.approx(60_000_000, rel=0.01)
    assert found.bytes_per_square_second == pytest.approx(5_000_000, rel=0.01)


@pytest.mark.parametrize(
    ("step", "beams", "expected"),
    [
        (lambda rows: 0.01 * rows, 4, 4),  # nothing is gained
        (lambda rows: 0.01, 4, 256),  # each row more is for nothing
        (lambda rows: max(0.01, 0.001 * rows), 1, 16),
    ],
)
def test_how_many_are_written_about_at_a_time(step: Callable[[int], float], beams: int, expected: int) -> None:
    found = Bench(**CPU, beams=beams, step=step).measure().calibration
    assert found.live_beams == expected
    assert f"{expected} beams at a time" in str(found)


def test_without_a_decoder_nothing_is_written() -> None:
    assert Bench(**CPU).measure().calibration.live_beams is None


def test_a_graph_whose_rows_depend_on_each_other_runs_one_at_a_time() -> None:
    bench = Bench(**CPU, row=RowMemory(2_000_000, 0), rows=1)
    found = bench.measure()
    assert {cell.count for cell in found.cells} == {1}
    assert found.calibration.batch_seconds == 1.0
    assert bench.opened[0].measured[0] == pytest.approx(3.75)
    assert found.calibration.bytes_per_second > 0


def test_the_cost_is_that_of_a_sentence_in_the_best_batches() -> None:
    assert Bench(**CPU).measure().cost == pytest.approx(0.0502, rel=0.01)
    assert Bench(**CPU).measure(usable=7).cost == pytest.approx(0.0502 / 7, rel=0.01)
    assert 0.005 < Bench(**GPU).measure(workers=1).cost < 0.015  # of 0.025 alone


def test_batches_stay_within_the_memory() -> None:
    bench = Bench(**GPU, row=UNMEASURED)
    found = bench.measure()
    assert max(cell.count for cell in found.cells) > 4
    for cell in found.cells:
        assert cell.count <= max(1, bench.opened[0].max_rows(cell.length))


def test_what_does_not_fit_into_memory_is_left_out() -> None:
    found = Bench(**GPU, capacity=100.0).measure()
    assert 50 <= max(cell.padded for cell in found.cells) <= 100


def test_an_engine_that_never_fits_says_so() -> None:
    with pytest.raises(OutOfMemoryError):
        Bench(**CPU, capacity=0.1).measure()


def test_more_cores_make_more_threads_where_they_help() -> None:
    faster: Callable[[int], float] = lambda threads: 1 / threads  # noqa: E731
    found = Bench(**CPU, alone=faster, parallel=lambda threads, workers: 1.0).measure(usable=7)
    assert (found.calibration.threads, found.calibration.workers) == (7, 1)


def test_workers_where_threads_do_not_help() -> None:
    bench = Bench(**CPU)
    found = bench.measure(usable=7)
    assert (found.calibration.threads, found.calibration.workers) == (1, 7)
    assert found.calibration.seconds_per_second == pytest.approx(0.01, rel=0.01)
    assert len(found.settings) == 12
    assert all(subject.closed for subject in bench.opened)


def test_a_batch_costs_more_where_the_workers_hold_each_other_up() -> None:
    found = Bench(**CPU, parallel=lambda threads, workers: workers**0.5).measure(workers=4)
    assert found.calibration.workers == 4
    assert found.calibration.seconds_per_second == pytest.approx(0.02, rel=0.01)


def test_what_is_given_is_kept() -> None:
    bench = Bench(**CPU)
    found = bench.measure(usable=7, threads=2, workers=3).calibration
    assert (found.threads, found.workers) == (2, 3)
    assert {subject.threads for subject in bench.opened} == {2}


def test_weights_that_do_not_fit_several_times_leave_the_most_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engines.host.free_memory", lambda: 5_000)
    bench = Bench(**CPU, weights=1_000)
    bench.measure(usable=7)
    assert {subject.threads for subject in bench.opened} == {7, 4}


@pytest.mark.parametrize(("per_second", "within"), [(0.001, 61), (0.1, 90)])
def test_the_time_is_bounded(per_second: float, within: float) -> None:
    """The slow one takes 60 s for the 600 s of audio of one round; the time is 60 s."""
    bench = Bench(fixed=0.001, per_second=per_second)
    bench.measure(seconds=60)
    assert bench.clock() <= within


def test_an_engine_that_is_too_slow_for_the_time_is_measured_with_short_clips() -> None:
    """It takes three times as long as the audio: nothing but the shortest is run more than needed."""
    bench = Bench(fixed=0.0, per_second=3.0)
    found = bench.measure(seconds=60)
    assert bench.clock() < 400
    assert found.calibration.seconds_per_second == pytest.approx(3.0)
    assert found.calibration.bytes_per_square_second >= UNMEASURED.bytes_per_square_second


def test_a_model_that_takes_short_clips_only() -> None:
    found = Bench(**CPU, shortest=0.05, longest=1.3).measure()
    assert {cell.length for cell in found.cells} == {1.0, 1.3}


def test_it_says_what_it_does() -> None:
    bench = Bench(**CPU)
    bench.measure()
    assert bench.said == ["Loading the engine", "Memory of a row", "Threads and workers", "Batches"]
