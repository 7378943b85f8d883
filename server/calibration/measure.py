"""Measuring an engine on this host, within a time that is given.

Candidates are timed in turn, A B A B ..., and compared by the medians of the ratios in each round: what slows the host
down for a while slows all of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines import host
from engines.errors import OutOfMemoryError
from engines.memory import UNMEASURED, RowMemory
from engines.runtimes import RuntimeOptions
from server.calibration import Calibration
from server.calibration.decide import (
    SENTENCE,
    Cell,
    Setting,
    best_budget,
    best_count,
    best_setting,
    candidates,
    cost_line,
    row_bytes,
)
from server.calibration.peak import held_up
from server.calibration.subject import EngineSubject, Subject

# Seconds of the clips in batches: from a word to the longest that most models take at once.
LENGTHS = (1.0, 3.0, 10.0, 30.0)
# Seconds of audio in the largest batch tried. On a CPU larger ones do not gain what 32 s do not; a GPU is filled later.
LARGEST = {"cpu": 32.0, "cuda": 512.0}
# Rows of the longest length, and of shorter ones, whose memory is measured: in pairs, since some arrays are there only
# where rows differ.
ROW_PARTS, PAIR = (1 / 8, 1 / 4, 1 / 2, 1.0), 2
# Rows of the largest step tried, all beams of all clips: the weights are read once for all of them, and with so many
# that is no longer what takes the time, even on a GPU.
LARGEST_STEP = 256
# Shares of the time: for memory, for threads and workers, for batches, for steps of a decoder.
SHARES = (0.2, 0.3, 0.3, 0.2)
# Of a share, the first untimed round of all candidates may take so much, so that there is time for as many rounds as
# medians need; candidates that it does not come to are left out.
FIRST_ROUND = 0.1
# Of what memory is free, copies of the weights may take so much while threads are compared.
MEMORY_SHARE = 0.5
# Of its time a run has at least this share itself, whatever the kernel's clocks say.
LEAST_SHARE = 0.01
# Rounds after which a median does not move by what matters here.
ROUNDS = 25

Progress = Callable[[str], None]
Run = Callable[[], None]


@dataclass(frozen=True)
class Measured:
    """A calibration, and what it follows from."""

    calibration: Calibration
    settings: tuple[Setting, ...]
    cells: tuple[Cell, ...]


def measure(
    folder: Path, options: RuntimeOptions, workers: int, seconds: float, progress: Progress = lambda step: None
) -> Measured:
    """Measure the engine in `folder`; `options.threads` and `workers` that are not 0 are given. Raises EngineError."""

    def open_subject(threads: int) -> Subject:
        return EngineSubject(folder, replace(options, threads=threads))

    return Measurement(open_subject, host.engine_threads(), seconds, progress).run(options.threads, workers)


class Measurement:
    """Measures one engine; `open_subject` loads it with so many threads."""

    def __init__(
        self,
        open_subject: Callable[[int], Subject],
        usable: int,
        seconds: float,
        progress: Progress = lambda step: None,
        clock: Callable[[], float] = time.perf_counter,
        held_up: Callable[[], float] = held_up,
    ) -> None:
        """`usable` cores may be used, and about `seconds` taken, or what one round of the least takes.

        `held_up` says how long others have run in place of this thread, in seconds.
        """
        self._open = open_subject
        self._usable = usable
        self._seconds = seconds
        self._progress = progress
        self._clock = clock
        self._held_up = held_up

    def run(self, threads: int = 0, workers: int = 0) -> Measured:
        """Measure; `threads` and `workers` that are not 0 are given. Raises EngineError."""
        self._progress("Loading the engine")
        subject = self._open(threads or self._usable)
        try:
            self._progress("Memory of a row")
            row = self._row(subject, SHARES[0] * self._seconds)
            settings = self._settings(subject, threads, workers)
            chosen = best_setting(settings)
            if chosen.threads != (threads or self._usable):
                subject.close()
                subject = self._open(chosen.threads)
            subject.learn(row)
            self._progress("Batches")
            cells = self._cells(subject, (SHARES[2] if subject.beams else sum(SHARES[2:])) * self._seconds)
            live_beams = self._live_beams(subject, SHARES[3] * self._seconds) if subject.beams else None
        finally:
            subject.close()
        return Measured(_calibration(chosen, cells, row, live_beams), tuple(settings), tuple(cells))

    def _row(self, subject: Subject, seconds: float) -> RowMemory:
        """Measure what a row takes, from short to long as far as the time allows."""
        longest = min(subject.longest, LENGTHS[-1])
        every = [max(subject.shortest, longest * part) for part in ROW_PARTS]
        rows = PAIR if subject.max_rows(every[0]) >= PAIR else 1
        lengths, peaks = list[float](), list[float]()
        end = self._clock() + seconds
        subject.batch(every[0], rows)  # the first run allocates what then stays
        for length in every:
            if subject.max_rows(length) < rows:  # by what was found so far
                break
            try:
                peak = subject.memory(partial(subject.batch, length, rows))
            except OutOfMemoryError:
                break
            if peak is None:
                return UNMEASURED
            lengths.append(length)
            peaks.append(peak / rows)
            subject.learn(RowMemory(*row_bytes(lengths, peaks)))
            if self._clock() > end:
                break
        if not lengths:
            return UNMEASURED
        linear, square = row_bytes(lengths, peaks)
        if lengths[-1] < longest:  # the square of what is long is not seen in what is short
            square = max(square, UNMEASURED.bytes_per_square_second)
        return RowMemory(linear, square)

    def _settings(self, subject: Subject, threads: int, workers: int) -> list[Setting]:
        """Time one clip alone with each number of threads, and all workers busy with each setting."""
        tried = candidates(self._usable, threads, workers, subject.device != "cpu")
        tried = _that_fit(tried, subject.weights)
        numbers = sorted({each for each, _ in tried})
        several = [(each, count) for each, count in tried if count > 1]
        subjects = {threads or self._usable: subject}
        self._progress("Threads and workers")
        try:
            for each in set(numbers) - set(subjects):
                subjects[each] = self._open(each)
            length = min(max(SENTENCE, subject.shortest), subject.longest)
            runs: list[Run] = [partial(subjects[each].clips, length, 1, 1) for each in numbers]
            runs += [partial(subjects[each].clips, length, 2 * count, count) for each, count in several]
            # Where there is nothing to choose, one round says how long a clip takes.
            times = self._interleave(runs, SHARES[1] * self._seconds * (len(tried) > 1), len(runs))
        finally:
            for other in subjects.values():
                if other is not subject:
                    other.close()
        # By the ratios in each round; the first is as good to begin with as any.
        medians = np.median(times[:, 0]) * np.median(times / times[:, :1], axis=0)
        alone = dict(zip(numbers, medians.tolist(), strict=False))
        busy = dict(zip(several, (medians[len(numbers) :] / 2).tolist(), strict=True))
        return [Setting(*pair, alone[pair[0]], busy.get(pair, alone[pair[0]])) for pair in tried]

    def _cells(self, subject: Subject, seconds: float) -> list[Cell]:
        """Time batches of several lengths and sizes, as far as the time and the memory allow, the smallest first."""
        grid = sorted(_grid(subject), key=lambda cell: (cell[0] * cell[1], cell[1]))
        runs: list[Run] = [partial(subject.batch, length, count) for length, count in grid]
        times = self._interleave(runs, seconds, 1)
        grid = grid[: times.shape[1]]
        alone = {length: index for index, (length, count) in enumerate(grid) if count == 1}
        return [
            Cell(
                length,
                count,
                float(np.median(times[:, index])),
                float(np.median(times[:, index] / count / times[:, alone[length]])),
            )
            for index, (length, count) in enumerate(grid)
        ]

    def _live_beams(self, subject: Subject, seconds: float) -> int:
        """Time steps about one clip, two, four and so on; return with how many beams in all each costs little."""
        length = min(max(SENTENCE, subject.shortest), subject.longest)
        most = max(1, min(LARGEST_STEP // subject.beams, subject.max_rows(length)))
        counts = [1 << power for power in range(most.bit_length())]
        self._progress("Steps of the decoder")
        times = self._interleave([partial(subject.steps, length, count) for count in counts], seconds, 1)
        each = times / counts[: times.shape[1]]
        shares = np.median(each / each[:, :1], axis=0)
        return subject.beams * best_count(list(zip(counts, shares.tolist(), strict=False)))

    def _interleave(self, runs: Sequence[Run], seconds: float, least: int) -> NDArray[np.float64]:
        """Return the seconds [rounds, runs] of the first runs for which there is time, `least` of them at any rate."""
        begun = self._clock()
        fit: list[Run] = []
        for run in runs:
            if len(fit) >= least and self._clock() - begun > FIRST_ROUND * seconds:
                break
            try:
                run()  # untimed: the first run plans and allocates
            except OutOfMemoryError:
                if len(fit) < least:
                    raise
                break
            fit.append(run)
        rounds: list[list[float]] = []
        while not rounds or (len(rounds) < ROUNDS and self._clock() - begun < seconds):
            rounds.append([self._timed(run) for run in fit])
        return np.array(rounds)

    def _timed(self, run: Run) -> float:
        """Return the seconds of `run`, without what other processes took of them: the result is kept for long."""
        before, begun = self._held_up(), self._clock()
        run()
        seconds = self._clock() - begun
        return max(seconds - (self._held_up() - before), seconds * LEAST_SHARE)


def _grid(subject: Subject) -> Iterator[tuple[float, int]]:
    """Yield (length, count) of the batches to try; of each length, the single clip."""
    largest = LARGEST.get(subject.device, LARGEST["cuda"])
    for length in sorted({min(max(length, subject.shortest), subject.longest) for length in LENGTHS}):
        count = 1
        while count == 1 or (count * length <= largest and count <= subject.max_rows(length)):
            yield length, count
            count *= 2


def _that_fit(tried: Sequence[tuple[int, int]], weights: int) -> list[tuple[int, int]]:
    """Return those with the most threads, as many as can be loaded at a time: each has the weights once more."""
    free = host.free_memory()
    numbers = sorted({threads for threads, _ in tried}, reverse=True)
    fit = len(numbers) if free is None else max(1, int(MEMORY_SHARE * free / weights))
    return [pair for pair in tried if pair[0] in numbers[:fit]]


def _calibration(chosen: Setting, cells: Sequence[Cell], row: RowMemory, live_beams: int | None = None) -> Calibration:
    budget = best_budget(cells)
    fixed, each = cost_line(cells, budget)
    return Calibration(
        threads=chosen.threads,
        workers=chosen.workers,
        batch_seconds=budget,
        fixed_seconds=fixed * chosen.held_up,
        seconds_per_second=each * chosen.held_up,
        bytes_per_second=row.bytes_per_second,
        bytes_per_square_second=row.bytes_per_square_second,
        measured=datetime.now(UTC).isoformat(timespec="seconds"),
        live_beams=live_beams,
    )
