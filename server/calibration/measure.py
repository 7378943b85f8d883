"""Measuring one form of an engine on this host, within a time that is given.

Candidates are compared by the medians of the ratios in each round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import numpy as np

from engines import host
from engines.errors import OutOfMemoryError
from engines.memory import UNMEASURED, RowMemory
from server.calibration import Calibration
from server.calibration.decide import (
    SENTENCE,
    Cell,
    Setting,
    batched,
    best_budget,
    best_count,
    best_setting,
    candidates,
    cost_line,
    row_bytes,
)
from server.calibration.subject import Subject
from server.calibration.timing import Run, Timer

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
# Of what memory is free, copies of the weights may take so much while threads are compared.
MEMORY_SHARE = 0.5

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Measured:
    """A calibration, and what it follows from."""

    calibration: Calibration
    settings: tuple[Setting, ...]
    cells: tuple[Cell, ...]
    cost: float  # seconds of the host that a sentence takes, all workers being busy with batches


class Measurement:
    """Measures one engine; `open_subject` loads it with so many threads."""

    def __init__(
        self,
        open_subject: Callable[[int], Subject],
        usable: int,
        seconds: float,
        timer: Timer,
        progress: Progress = lambda step: None,
    ) -> None:
        """`usable` cores may be used, and about `seconds` taken, or what one round of the least takes."""
        self._open = open_subject
        self._usable = usable
        self._seconds = seconds
        self._progress = progress
        self._timer = timer

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
        calibration = _calibration(chosen, cells, row, live_beams)
        cost = batched(cells, calibration.batch_seconds) / chosen.throughput
        return Measured(calibration, tuple(settings), tuple(cells), cost)

    def _row(self, subject: Subject, seconds: float) -> RowMemory:
        """Measure what a row takes, from short to long as far as the time allows."""
        longest = min(subject.longest, LENGTHS[-1])
        every = [max(subject.shortest, longest * part) for part in ROW_PARTS]
        rows = PAIR if subject.max_rows(every[0]) >= PAIR else 1
        lengths, peaks = list[float](), list[float]()
        end = self._timer.clock() + seconds
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
            if self._timer.clock() > end:
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
            times = self._timer.interleave(runs, SHARES[1] * self._seconds * (len(tried) > 1), len(runs))
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
        times = self._timer.interleave(runs, seconds, 1)
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
        times = self._timer.interleave([partial(subject.steps, length, count) for count in counts], seconds, 1)
        each = times / counts[: times.shape[1]]
        shares = np.median(each / each[:, :1], axis=0)
        return subject.beams * best_count(list(zip(counts, shares.tolist(), strict=False)))


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
