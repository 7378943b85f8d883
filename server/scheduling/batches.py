"""Which of the clips that wait go together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from server.scheduling.jobs import AnyJob, JobT


@dataclass(frozen=True)
class Room:
    """What one batch may hold.

    Longest x count stays within `padded_samples`, the padded share within `max_padding`, and the clips within
    `max_rows(longest)`: memory grows with the square of the length, so a linear budget is not enough. Clips that need
    fewer layers than others join them where the layers that they need not cost no more than `spare_samples` do in all
    layers: as much as a batch of their own.
    """

    padded_samples: float
    max_padding: float
    max_rows: Callable[[int], int]
    spare_samples: float = 0.0

    def holds(self, batch: Batch) -> bool:
        """Whether these clips can go together."""
        return (
            batch.padded <= self.padded_samples
            and batch.padded - batch.samples <= self.max_padding * batch.padded
            and batch.longest * (batch.deepest * batch.count - batch.depths) <= self.spare_samples
            and batch.count <= self.max_rows(batch.longest)
        )


@dataclass(frozen=True)
class Batch:
    """The clips of a batch in sum: their number, samples, and shares of the layers."""

    count: int = 0
    longest: int = 0
    samples: int = 0
    deepest: float = 0.0
    depths: float = 0.0

    @classmethod
    def of(cls, jobs: Iterable[AnyJob]) -> Batch:
        """Sum up `jobs`."""
        batch = cls()
        for job in jobs:
            batch = batch.with_(job)
        return batch

    @property
    def padded(self) -> int:
        """Samples, with the padding."""
        return self.longest * self.count

    def with_(self, job: AnyJob) -> Batch:
        """Return the batch with one more clip."""
        return Batch(
            self.count + 1,
            max(self.longest, job.samples),
            self.samples + job.samples,
            max(self.deepest, job.depth),
            self.depths + job.depth,
        )


def form_batch(waiting: Sequence[JobT], room: Room) -> list[JobT]:
    """Return the first job, then those nearest to it in length for which there is room.

    The first goes whatever its length, so that none starves.
    """
    first = waiting[0]
    taken, batch = [first], Batch.of([first])
    others = (job for job in waiting[1:] if job.group == first.group)
    for job in sorted(others, key=lambda job: abs(job.samples - first.samples)):
        larger = batch.with_(job)
        if first.samples * larger.count > room.padded_samples:
            break
        if room.holds(larger):
            taken.append(job)
            batch = larger
    return taken


def halves(batch: Sequence[JobT]) -> list[list[JobT]]:
    """Return the shorter clips of `batch`, then the longer ones."""
    by_length = sorted(batch, key=lambda job: job.samples)
    middle = len(by_length) // 2
    return [by_length[:middle], by_length[middle:]]
