"""What waits for one engine: bounded by what it can hold, and by what can be done in time."""

from __future__ import annotations

import math
import time
from bisect import insort
from collections import deque
from collections.abc import Collection, Sequence

from prometheus_client import Gauge

from server.errors import QueueFullError, WaitTooLongError
from server.scheduling.jobs import AnyJob

WAITING = Gauge("sonant_queue_audio_seconds", "Audio that waits for an engine.", ["model"])

# Weight of the newest batch in the running mean of the throughput.
NEWEST = 0.2
LONGEST_RETRY_SECONDS = 60
# A request is taken if it will be done within this share of its time: batches differ, and predictions with them.
CERTAIN = 0.8


class Throughput:
    """Samples of audio that the engine does in a second, as measured in its batches."""

    def __init__(self, workers: int, samples_per_second: float = 0.0) -> None:
        """Begin with what a calibration found; 0 where nothing is known."""
        self.workers = workers
        self._each = samples_per_second

    def measure(self, samples: int, seconds: float) -> None:
        """Take in that one worker did so much."""
        newest = samples / seconds
        old = self._each or newest
        self._each = old + NEWEST * (newest - old)

    def seconds(self, samples: float) -> float:
        """Return how long all workers need; 0 as long as nothing is known."""
        return samples / (self._each * self.workers) if self._each else 0.0


class Queue:
    """The jobs that wait, by when they are due, and the batches that must run again as they are."""

    def __init__(self, model: str, sample_rate: int, throughput: Throughput) -> None:
        self._gauge = WAITING.labels(model)
        self._sample_rate = sample_rate
        self._throughput = throughput
        self._waiting: list[AnyJob] = []
        self._again: deque[list[AnyJob]] = deque()
        self._gauge.set(0)

    @property
    def waiting(self) -> Sequence[AnyJob]:
        """The first to be due first; some may have been cancelled since."""
        return self._waiting

    @property
    def samples(self) -> int:
        """Of all that wait."""
        return sum(job.samples for job in self._waiting) + sum(job.samples for part in self._again for job in part)

    def check(self, samples: int, running: float, limit_seconds: float, deadline: float) -> None:
        """Raise QueueFullError or WaitTooLongError unless `samples` more can wait and be done by `deadline`.

        `running` is what runs, in samples; `deadline` is on the clock of time.perf_counter. A queue that is empty
        holds any request: else one that is larger than the queue would never be served.
        """
        self.drop_cancelled()
        waiting = self.samples
        if waiting and waiting + samples > limit_seconds * self._sample_rate:
            seconds = self._throughput.seconds(waiting + running)
            raise QueueFullError(
                f"the queue is full: {waiting / self._sample_rate:.0f} s of audio wait, "
                f"{limit_seconds:g} s is the limit",
                retry_after=_retry_after(seconds),
            )
        needed = self._throughput.seconds(waiting + running + samples)
        there = deadline - time.perf_counter()
        if waiting + running and needed > CERTAIN * there:
            raise WaitTooLongError(
                f"what waits already takes {self._throughput.seconds(waiting + running):.1f} s, and the request is "
                f"wanted within {max(there, 0):.1f} s",
                retry_after=_retry_after(needed - CERTAIN * there),
            )

    def add(self, jobs: Sequence[AnyJob]) -> None:
        """Let `jobs` wait, each until it would be its turn if the engine had nothing else to do.

        What is added meanwhile comes between: a long clip does not hold up others with all of its windows. Nor do
        others hold it up for good, since nothing goes before what has been due for longer.
        """
        before = 0
        for job in jobs:
            job.due += self._throughput.seconds(before)
            before += job.samples
            insort(self._waiting, job, key=lambda job: job.due)
        self._show()

    def take(self, jobs: Collection[AnyJob]) -> None:
        """Let `jobs` wait no longer."""
        taken = set(jobs)
        self._waiting = [job for job in self._waiting if job not in taken]
        self._show()

    def put_back(self, parts: Sequence[list[AnyJob]]) -> None:
        """Let each of `parts` run before all others, as a batch of its own."""
        self._again.extendleft(reversed(parts))

    def next_again(self) -> list[AnyJob]:
        """Return the first of the parts, without those that nobody waits for; none if there is no part."""
        while self._again:
            self._again[0] = [job for job in self._again[0] if not job.future.done()]
            if self._again[0]:
                return self._again[0]
            self._again.popleft()
        return []

    def take_again(self) -> None:
        """Forget the first of the parts."""
        self._again.popleft()

    def drop_cancelled(self) -> None:
        """Forget those that nobody waits for."""
        self._waiting = [job for job in self._waiting if not job.future.done()]
        self._show()

    def clear(self) -> list[AnyJob]:
        """Forget all, and return them."""
        jobs = [*self._waiting, *(job for part in self._again for job in part)]
        self._waiting, self._again = [], deque()
        self._show()
        return jobs

    def _show(self) -> None:
        self._gauge.set(sum(job.samples for job in self._waiting) / self._sample_rate)


def _retry_after(seconds: float) -> int:
    return min(LONGEST_RETRY_SECONDS, max(1, math.ceil(seconds)))
