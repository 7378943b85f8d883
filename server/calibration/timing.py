"""Times of calls, compared in turn, A B A B ...: what slows the host down for a while slows all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from engines.errors import OutOfMemoryError
from server.calibration.peak import held_up

# Of the time, the first untimed round of all candidates may take so much, so that there is time for as many rounds as
# medians need; candidates that it does not come to are left out.
FIRST_ROUND = 0.1
# Of its time a run has at least this share itself, whatever the kernel's clocks say.
LEAST_SHARE = 0.01
# Rounds after which a median does not move by what matters here.
ROUNDS = 25

Run = Callable[[], None]


class Timer:
    """Times calls, without what other processes took of them: the result is kept for long."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter, held_up: Callable[[], float] = held_up) -> None:
        """`held_up` says how long others have run in place of this thread, in seconds."""
        self.clock = clock
        self._held_up = held_up

    def interleave(self, runs: Sequence[Run], seconds: float, least: int) -> NDArray[np.float64]:
        """Return the seconds [rounds, runs] of the first runs for which there is time, `least` of them at any rate.

        Raises OutOfMemoryError where one of these finds no memory.
        """
        begun = self.clock()
        fit: list[Run] = []
        for run in runs:
            if len(fit) >= least and self.clock() - begun > FIRST_ROUND * seconds:
                break
            try:
                run()  # untimed: the first run plans and allocates
            except OutOfMemoryError:
                if len(fit) < least:
                    raise
                break
            fit.append(run)
        rounds: list[list[float]] = []
        while not rounds or (len(rounds) < ROUNDS and self.clock() - begun < seconds):
            rounds.append([self._timed(run) for run in fit])
        return np.array(rounds)

    def _timed(self, run: Run) -> float:
        before, begun = self._held_up(), self.clock()
        run()
        seconds = self.clock() - begun
        return max(seconds - (self._held_up() - before), seconds * LEAST_SHARE)
