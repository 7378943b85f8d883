"""Engines of known cost, on a clock of their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from engines.errors import OutOfMemoryError
from engines.memory import RowMemory

LIMIT = 4_000_000_000  # bytes that a batch may take


@dataclass
class Clock:
    """A time that passes when somebody says so."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class FakeSubject:
    """A batch takes `fixed` + `per_second` x padded seconds, a clip `alone(threads)` of that with so many threads."""

    clock: Clock
    threads: int
    fixed: float
    per_second: float
    device: str = "cpu"
    shortest: float = 0.1
    longest: float = 60.0
    weights: int = 1
    parallel: Callable[[int, int], float] = lambda threads, workers: workers  # clips at a time
    alone: Callable[[int], float] = lambda threads: 1.0
    row: RowMemory = field(default_factory=lambda: RowMemory(2_000_000, 50_000))
    capacity: float = float("inf")  # padded seconds beyond which there is no memory
    noise: Callable[[], float] = lambda: 1.0
    rows: int = 1_000_000  # that a batch may have, whatever the memory
    beams: int = 0
    step: Callable[[int], float] = lambda rows: 0.01  # seconds of a step with so many rows
    measured: list[float] = field(default_factory=list)  # padded seconds of the runs whose memory was measured
    closed: bool = False
    learnt: RowMemory | None = None

    def batch(self, length: float, count: int) -> None:
        if length * count > self.capacity:
            raise OutOfMemoryError("no memory")
        seconds = (self.fixed + self.per_second * length * count) * self.alone(self.threads)
        self.clock.now += seconds * self.noise()

    def clips(self, length: float, count: int, workers: int) -> None:
        alone = (self.fixed + self.per_second * length) * self.alone(self.threads)
        self.clock.now += alone * count / self.parallel(self.threads, workers) * self.noise()

    def steps(self, length: float, count: int) -> None:
        self.clock.now += self.step(count * self.beams) * self.noise()

    def max_rows(self, length: float) -> int:
        return min(self.rows, int(LIMIT / self.learnt.of(length)) if self.learnt else 1000)

    def memory(self, run: Callable[[], None]) -> int | None:
        """Two rows of the length that `run` is for."""
        before = self.clock.now
        run()
        padded = ((self.clock.now - before) / self.alone(self.threads) - self.fixed) / self.per_second
        self.measured.append(padded)
        return round(2 * self.row.of(padded / 2))

    def learn(self, row: RowMemory) -> None:
        self.learnt = row

    def close(self) -> None:
        self.closed = True
