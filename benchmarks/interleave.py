"""Contestants timed in turn, so that a machine that drifts slows all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np

from benchmarks.stats import Times

T = TypeVar("T")
Tick = Callable[[int, float], None]  # rounds done, share of the measurement that is done
# Seconds before each timed call: worker threads of the contestant before may spin for some milliseconds after it.
SETTLE = 0.01


def warm_up(contestants: Mapping[str, Callable[[], T]]) -> dict[str, T]:
    """Run each contestant once, untimed, and return what it computed: a first run plans and allocates."""
    return {name: run() for name, run in contestants.items()}


def stopwatch(run: Callable[[], object]) -> float:
    """Return the seconds that `run` takes."""
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def interleave(
    contestants: Mapping[str, Callable[[], T]],
    seconds: float,
    minimum: int,
    tick: Tick = lambda rounds, share: None,
    timed: Callable[[Callable[[], T]], float] = stopwatch,
) -> dict[str, Times]:
    """Time the contestants in rounds, A B A B ..., until `seconds` have passed and `minimum` rounds are done.

    `timed` runs a contestant and returns its seconds. Returns the times of each; those of one index were taken side by
    side.
    """
    if minimum < 1:
        raise ValueError(f"at least one round is needed, not {minimum}")
    times: dict[str, list[float]] = {name: [] for name in contestants}
    begin, rounds, share = time.perf_counter(), 0, 0.0
    while share < 1.0:
        for name, run in contestants.items():
            time.sleep(SETTLE)
            times[name].append(timed(run))
        rounds += 1
        elapsed = time.perf_counter() - begin
        share = min(1.0, rounds / minimum, elapsed / seconds if seconds > 0 else 1.0)
        tick(rounds, share)
    return {name: np.array(taken, np.float64) for name, taken in times.items()}
