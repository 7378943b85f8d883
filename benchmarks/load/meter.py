"""Processor time of a server and of the load generator beside it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.load.process import usage
from benchmarks.records.load import Load


@dataclass(frozen=True)
class Spent:
    """Seconds so far: of the clock, and of processors; the server's are not a number where nobody can tell."""

    wall: float
    server: float
    generator: float

    @classmethod
    def by(cls, pids: Sequence[int]) -> Spent:
        """Read what the processes `pids` and those below them have used, and this process."""
        server = sum(usage(pid).cpu_seconds for pid in pids) if pids else float("nan")
        return cls(time.perf_counter(), server, time.process_time())

    def __sub__(self, before: Spent) -> Spent:
        return Spent(self.wall - before.wall, self.server - before.server, self.generator - before.generator)

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.wall + other.wall, self.server + other.server, self.generator + other.generator)

    @property
    def load(self) -> Load:
        """Cores that were busy meanwhile."""
        return Load(server_cores=self.server / self.wall, generator_cores=self.generator / self.wall)


class Meter:
    """Adds up the processor time of a server and of this process over the blocks that it is around."""

    def __init__(self, *pids: int) -> None:
        self._pids = pids
        self._spent = Spent(0.0, 0.0, 0.0)

    def __enter__(self) -> None:
        self._before = Spent.by(self._pids)

    def __exit__(self, *_: object) -> None:
        self._spent += Spent.by(self._pids) - self._before

    @property
    def load(self) -> Load:
        """Of all blocks so far."""
        return self._spent.load
