"""How long work takes, as measured."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from server.scheduling.jobs import AnyJob, Kind

# What is kept of the sums at each measurement: the last ten or so count.
KEPT = 0.9


@dataclass
class Rate:
    """Work and the seconds that it took, in sums that forget. Sums, since a mean of rates favours the fast ones."""

    work: float = 0.0
    seconds: float = 0.0

    def add(self, work: float, seconds: float) -> None:
        """Take in one measurement."""
        self.work = KEPT * self.work + work
        self.seconds = KEPT * self.seconds + seconds


class Throughput:
    """What the engine does in a second, for each kind of jobs."""

    def __init__(self, workers: int, seconds_per_sample: float = 0.0) -> None:
        """Begin with what is known of encoding; 0 where nothing is."""
        self.workers = workers
        self._rates: dict[Kind, Rate] = {"run": Rate(), "write": Rate()}
        self.know(seconds_per_sample)

    def know(self, seconds_per_sample: float) -> None:
        """Take what was measured elsewhere for what is known of encoding; 0 changes nothing."""
        if seconds_per_sample:
            self._rates["run"] = Rate(1.0, seconds_per_sample)

    def measure(self, kind: Kind, work: float, seconds: float) -> None:
        """Take in that one worker did so much."""
        self._rates[kind].add(work, seconds)

    def seconds(self, jobs: Iterable[AnyJob]) -> float:
        """Return how long all workers need for `jobs`; what nothing is known of counts as nothing."""
        return self.alone(jobs) / self.workers

    def alone(self, jobs: Iterable[AnyJob]) -> float:
        """Return how long one worker needs for `jobs`."""
        work: dict[Kind, float] = {"run": 0.0, "write": 0.0}
        for job in jobs:
            work[job.kind] += job.work
        rates = self._rates
        return sum(work[kind] * rates[kind].seconds / rates[kind].work for kind in rates if rates[kind].seconds)
