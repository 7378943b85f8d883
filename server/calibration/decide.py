"""What follows from the measurements: threads and workers, the cost of a batch, and how large one had better be."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Seconds of a clip where one length must do: those of a sentence.
SENTENCE = 5.0
# An answer on an idle server may take so many times as long as with the best number of threads: more, slower engines
# at a time do more in all, but a server is idle more often than not.
SLOWER = 2.0
# What differs by less is the same: the difference would not be seen from one hour to the next.
SAME = 0.05
# A larger batch is not worth the wait for its end if it gains less than this.
GAIN = 0.03


@dataclass(frozen=True)
class Setting:
    """Threads inside one operation and batches at a time, with what came of them."""

    threads: int
    workers: int
    alone: float  # seconds for one clip, nothing else being done
    busy: float  # seconds for each clip, all workers being busy

    @property
    def throughput(self) -> float:
        """Clips per second, all workers busy."""
        return self.workers / self.busy

    @property
    def held_up(self) -> float:
        """How many times as long a batch takes where all workers are busy."""
        return max(1.0, self.busy / self.alone)


@dataclass(frozen=True)
class Cell:
    """Batches of `count` clips of one length, with what came of them."""

    length: float  # of each clip, in seconds
    count: int
    seconds: float  # for one batch
    relative: float  # time per clip, as a share of that of a clip of this length alone

    @property
    def padded(self) -> float:
        """Seconds of audio in a batch."""
        return self.length * self.count


def candidates(usable: int, threads: int, workers: int, on_gpu: bool) -> list[tuple[int, int]]:
    """Return the (threads, workers) to try on so many cores; `threads` and `workers` that are not 0 are given.

    On a GPU threads only feed the device, and a second batch may fill its gaps. On a CPU the batches of one session
    share its threads: each runs in the thread that called, and all have the other threads - 1 to help, so that together
    they keep threads + workers - 1 cores busy.
    """
    if on_gpu:
        return [(threads or usable, each) for each in ([workers] if workers else [1, 2])]
    return [
        (each, at_a_time)
        for each in ([threads] if threads else _ladder(usable))
        for at_a_time in ([workers] if workers else _ladder(max(1, usable - each + 1)))
    ]


def best_setting(settings: Sequence[Setting]) -> Setting:
    """Return the fewest workers, and of these the fewest threads, that do as much as any.

    Those with which an idle server would answer too late do not count.
    """
    soonest = min(setting.alone for setting in settings)
    fit = [setting for setting in settings if setting.alone <= SLOWER * soonest]
    most = max(setting.throughput for setting in fit)
    good = [setting for setting in fit if setting.throughput >= (1 - SAME) * most]
    return min(good, key=lambda setting: (setting.workers, setting.threads))


def best_form(forms: Sequence[tuple[float, float]]) -> int:
    """Return the index of the form, of which (error, cost) are given, that is the fastest; of equals the most exact."""
    least = min(cost for _, cost in forms)
    good = [(error, index) for index, (error, cost) in enumerate(forms) if cost * (1 - SAME) <= least]
    return min(good)[1]


def best_budget(cells: Sequence[Cell]) -> float:
    """Return the fewest seconds of audio per batch that lose less than 3 % against the best, over all lengths.

    Where batches gain nothing, as on most CPUs, it is the shortest length measured, so that each clip runs alone: to
    share a batch is then to wait for the others' end.
    """
    budgets = sorted({cell.padded for cell in cells})
    costs = {budget: batched(cells, budget) for budget in budgets}
    least = min(costs.values())
    return next(budget for budget in budgets if costs[budget] * (1 - GAIN) <= least)


def best_count(shares: Sequence[tuple[int, float]]) -> int:
    """Return the least count whose share of the cost, for each of so many, loses less than 3 % against the best."""
    least = min(share for _, share in shares)
    return min(count for count, share in shares if share * (1 - GAIN) <= least)


def cost_line(cells: Sequence[Cell], budget: float) -> tuple[float, float]:
    """Return (fixed, per padded second), both in seconds: of the batches within `budget`, and of single clips.

    Attention costs by the square of a clip's length, which must not hide what is fixed: it is fitted beside, and the
    cost of a second is that in a sentence.
    """
    used = [cell for cell in cells if cell.count == 1 or cell.padded <= budget]
    terms = [(cell.padded, 1.0, cell.padded * cell.length) for cell in used]
    linear, fixed, square = _fit(np.array(terms), np.array([cell.seconds for cell in used]))
    return fixed, linear + square * SENTENCE


def row_bytes(lengths: Sequence[float], peaks: Sequence[float]) -> tuple[float, float]:
    """Return (bytes per second, bytes per second squared) of rows of `lengths`: no less than any was seen to take."""
    seconds, found = np.array(lengths), np.maximum(peaks, 1.0)
    terms = np.stack([seconds, seconds**2], axis=1)
    linear, square = _fit(terms, found)
    raised = float((found / (terms @ [linear, square])).max())
    return linear * raised, square * raised


def batched(cells: Sequence[Cell], budget: float) -> float:
    """Return the time per clip at `budget`, as a share of that alone: the geometric mean over the lengths."""
    shares = []
    for length in {cell.length for cell in cells}:
        fit = [cell for cell in cells if cell.length == length and (cell.padded <= budget or cell.count == 1)]
        shares.append(max(fit, key=lambda cell: cell.count).relative)
    return float(np.exp(np.mean(np.log(shares))))


def _fit(terms: NDArray[np.float64], found: NDArray[np.float64]) -> list[float]:
    """Return the factors, none below 0, of the columns of `terms` whose sum is nearest to `found`, by relative error.

    All sets of columns are tried, small ones first and from the left: of those that fit alike, the first counts.
    """
    shares = terms / found[:, None]
    best, least = np.zeros(terms.shape[1]), np.inf
    for size in range(1, terms.shape[1] + 1):
        for columns in itertools.combinations(range(terms.shape[1]), size):
            factors, *_ = np.linalg.lstsq(shares[:, columns], np.ones(len(found)), rcond=None)
            error = float(((shares[:, columns] @ factors - 1) ** 2).sum())
            if (factors >= 0).all() and error < (1 - SAME) * least:
                best, least = np.zeros(terms.shape[1]), error
                best[list(columns)] = factors
    return [float(factor) for factor in best]


def _ladder(largest: int) -> list[int]:
    """Return 1, 2, 4, ... and `largest`."""
    return sorted({1 << power for power in range(largest.bit_length())} | {largest})
