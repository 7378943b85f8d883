"""Which of the clips that wait go together."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from server.scheduling.jobs import AnyJob, JobT

# Of those that wait, so many nearest in length are looked at: more than a batch holds on any host.
NEAREST = 256


@dataclass(frozen=True)
class Room:
    """What one batch may hold.

    Longest x count stays within `padded_samples`, the padded share within `max_padding`, and the clips within
    `max_rows(longest)`: memory grows with the square of the length, so a linear budget is not enough. Clips that need
    fewer layers than others join them where the layers that they need not, times their samples, are no more than
    `spare_layers`: as much work as a batch of their own.
    """

    padded_samples: float
    max_padding: float
    max_rows: Callable[[int], int]
    spare_layers: float = 0.0


@dataclass
class Batch:
    """The clips of a batch in sum."""

    count: int = 0
    longest: int = 0
    samples: int = 0
    deepest: int = 0
    layers: int = 0

    @classmethod
    def of(cls, jobs: Iterable[AnyJob]) -> Batch:
        """Sum up `jobs`."""
        batch = cls()
        for job in jobs:
            batch.add(job)
        return batch

    @property
    def padded(self) -> int:
        """Samples, with the padding."""
        return self.longest * self.count

    def add(self, job: AnyJob) -> None:
        """Take in one more clip."""
        self.count += 1
        self.longest = max(self.longest, job.samples)
        self.samples += job.samples
        self.deepest = max(self.deepest, job.layers)
        self.layers += job.layers

    def has_room_for(self, job: AnyJob, room: Room) -> bool:
        """Whether one more clip fits."""
        count, longest = self.count + 1, max(self.longest, job.samples)
        padded, deepest = longest * count, max(self.deepest, job.layers)
        return (
            padded <= room.padded_samples
            and padded - self.samples - job.samples <= room.max_padding * padded
            and longest * (deepest * count - self.layers - job.layers) <= room.spare_layers
            and count <= room.max_rows(longest)
        )


def form_batch(waiting: Sequence[JobT], room: Room) -> list[JobT]:
    """Return the first job, then those nearest to it in length for which there is room.

    The first goes whatever its length, so that none starves.
    """
    first = waiting[0]
    taken, batch = [first], Batch.of([first])
    group = first.group
    others = (job for job in waiting[1:] if job.group == group)
    for job in heapq.nsmallest(NEAREST, others, key=lambda job: abs(job.samples - first.samples)):
        if first.samples * (batch.count + 1) > room.padded_samples:
            break
        if batch.has_room_for(job, room):
            taken.append(job)
            batch.add(job)
    return taken


def halves(batch: Sequence[JobT]) -> list[list[JobT]]:
    """Return the shorter clips of `batch`, then the longer ones."""
    by_length = sorted(batch, key=lambda job: job.samples)
    middle = len(by_length) // 2
    return [by_length[:middle], by_length[middle:]]
