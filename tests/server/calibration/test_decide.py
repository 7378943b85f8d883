from __future__ import annotations

import pytest

from server.calibration.decide import Cell, Setting, best_budget, best_setting, candidates, cost_line, row_bytes

LENGTHS = (1.0, 3.0, 10.0, 30.0)


def cells(fixed: float, per_second: float, largest: float, square: float = 0.0) -> list[Cell]:
    """Every batch up to `largest` seconds, of an engine that costs so much."""
    found = []
    for length in LENGTHS:
        alone = fixed + per_second * length + square * length**2
        counts = [1 << power for power in range(12) if power == 0 or length * (1 << power) <= largest]
        for count in counts:
            seconds = fixed + count * (per_second * length + square * length**2)
            found.append(Cell(length, count, seconds, seconds / count / alone))
    return found


def test_where_batches_gain_nothing_each_clip_runs_alone() -> None:
    assert best_budget(cells(0.0, 0.01, 32)) == 1.0


def test_where_batches_cost_each_clip_runs_alone() -> None:
    slower = [Cell(cell.length, cell.count, cell.seconds, 1 + 0.01 * cell.count) for cell in cells(0, 0.01, 32)]
    assert best_budget(slower) == 1.0


def test_noise_of_a_per_cent_does_not_make_batches() -> None:
    noisy = [
        Cell(cell.length, cell.count, cell.seconds, 1.0 if cell.count == 1 else 0.99) for cell in cells(0, 0.01, 32)
    ]
    assert best_budget(noisy) == 1.0


def test_a_gpu_is_filled_until_it_gains_less_than_three_per_cent() -> None:
    """20 ms a batch and 1 ms per second: of 512 s, 4 % are fixed."""
    every = cells(0.02, 0.001, 512)
    budget = best_budget(every)
    assert 100 < budget < 512
    cost = 0.02 / budget + 0.001
    assert cost < 1.2 * (0.02 / 512 + 0.001)


def test_only_short_clips_gain() -> None:
    """Two milliseconds a batch, four per second: a second of audio in four batches costs what six seconds in one do."""
    assert 4 <= best_budget(cells(0.002, 0.004, 32)) <= 32


@pytest.mark.parametrize(("fixed", "per_second"), [(0.02, 0.001), (0.0, 0.03), (0.003, 0.004)])
def test_the_line_is_found(fixed: float, per_second: float) -> None:
    found = cost_line(cells(fixed, per_second, 32), 32)
    assert found == pytest.approx((fixed, per_second), rel=1e-6, abs=1e-9)


def test_the_square_of_long_clips_does_not_hide_what_is_fixed() -> None:
    fixed, per_second = cost_line(cells(0.003, 0.004, 32, square=0.0002), 32)
    assert fixed == pytest.approx(0.003)
    assert per_second == pytest.approx(0.004 + 5 * 0.0002)  # in a clip of 5 s


def test_one_cell_is_a_line_too() -> None:
    fixed, per_second = cost_line([Cell(1.0, 1, 0.5, 1.0)], 1.0)
    assert min(fixed, per_second) >= 0
    assert fixed + per_second == pytest.approx(0.5)


def test_memory_is_found_and_never_too_little() -> None:
    lengths = (4.0, 8.0, 16.0, 32.0)
    exact = [2e6 * length + 5e4 * length**2 for length in lengths]
    assert row_bytes(lengths, exact) == pytest.approx((2e6, 5e4))
    uneven = [peak * factor for peak, factor in zip(exact, (1.3, 0.8, 1.1, 1.0), strict=True)]
    linear, square = row_bytes(lengths, uneven)
    assert min(linear, square) >= 0
    for length, peak in zip(lengths, uneven, strict=True):
        assert linear * length + square * length**2 >= 0.999 * peak
    assert row_bytes([1.0], [0.0]) != (0.0, 0.0)


@pytest.mark.parametrize(
    ("usable", "threads", "workers", "expected"),
    [
        (1, 0, 0, {(1, 1)}),
        (3, 0, 0, {(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (3, 1)}),
        (3, 2, 0, {(2, 1), (2, 2)}),
        (3, 0, 1, {(1, 1), (2, 1), (3, 1)}),
        (3, 8, 0, {(8, 1)}),
        (3, 2, 4, {(2, 4)}),
    ],
)
def test_threads_and_workers_that_keep_the_cores_busy(
    usable: int, threads: int, workers: int, expected: set[tuple[int, int]]
) -> None:
    assert set(candidates(usable, threads, workers, on_gpu=False)) == expected


def test_on_a_gpu_only_workers_differ() -> None:
    assert candidates(7, 0, 0, on_gpu=True) == [(7, 1), (7, 2)]
    assert candidates(7, 2, 3, on_gpu=True) == [(2, 3)]


def test_more_workers_where_they_do_more() -> None:
    slow, fast = Setting(1, 4, alone=0.18, busy=0.2), Setting(4, 1, alone=0.1, busy=0.1)
    assert best_setting([fast, slow]) is slow
    assert slow.held_up == pytest.approx(0.2 / 0.18)


def test_not_where_an_idle_server_would_answer_too_late() -> None:
    slow, fast = Setting(1, 8, alone=0.3, busy=0.3), Setting(8, 1, alone=0.1, busy=0.1)
    assert best_setting([slow, fast]) is fast


def test_of_equals_the_fewest() -> None:
    equals = [Setting(4, 1, 0.1, 0.1), Setting(3, 1, 0.102, 0.102), Setting(3, 2, 0.102, 0.203)]
    assert best_setting(equals) is equals[1]
