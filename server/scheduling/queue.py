"""What waits for one engine: bounded by what it can hold, and by what can be done in time."""

from __future__ import annotations

import math
import time
from bisect import bisect_right, insort
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager

from prometheus_client import Gauge

from server.errors import QueueFullError, WaitTooLongError
from server.scheduling.admission import Admission
from server.scheduling.jobs import AnyJob
from server.scheduling.throughput import Throughput

WAITING = Gauge("sonant_queue_audio_seconds", "Audio that waits for an engine.", ["model"])

LONGEST_RETRY_SECONDS = 60
# A request is taken if it will be done within this share of its time: batches differ, and predictions with them.
CERTAIN = 0.8
# Each is looked at for every request and batch, which takes the event loop less than a millisecond at this number.
MAX_JOBS = 2048


class Queue:
    """The jobs that wait, by when they are due, and the batches that must run again as they are."""

    def __init__(self, model: str, sample_rate: int, throughput: Throughput) -> None:
        self._gauge = WAITING.labels(model)
        self._sample_rate = sample_rate
        self._throughput = throughput
        self._waiting: list[AnyJob] = []
        self._again: deque[list[AnyJob]] = deque()
        self._admissions: set[Admission] = set()
        self._gauge.set(0)

    @property
    def waiting(self) -> Sequence[AnyJob]:
        """The first to be due first; some may have been cancelled since."""
        return self._waiting

    @property
    def is_owed(self) -> bool:
        """Whether more will be submitted of what was admitted."""
        return bool(self._admissions)

    @contextmanager
    def admission(self, jobs: Iterable[AnyJob]) -> Iterator[Admission]:
        """Expect that what takes as long as `jobs` is submitted bit by bit until the end of the context."""
        admission = Admission(self._throughput.seconds(jobs))
        self._admissions.add(admission)
        try:
            yield admission
        finally:
            self._admissions.discard(admission)

    @property
    def _to_run_again(self) -> list[AnyJob]:
        return [job for part in self._again for job in part]

    def check(self, jobs: Sequence[AnyJob], running: Iterable[AnyJob], limit_seconds: float, deadline: float) -> None:
        """Raise QueueFullError or WaitTooLongError unless `jobs` can wait and be done by `deadline`.

        `running` is what the engine has; `deadline` is on the clock of time.perf_counter. What is due later than
        `jobs`, such as the windows of a long clip, is not before them and does not count. An engine that has nothing to
        do takes any request: else one that is predicted wrongly would never correct the prediction.
        """
        self.drop_done()
        before = [*running, *self._to_run_again]
        if not before and not self._waiting:
            return
        now = time.perf_counter()
        due = [*self._to_run_again, *self._due(now)]
        waiting = sum(job.samples for job in due) / self._sample_rate
        first = jobs[0].samples / self._sample_rate if jobs else 0.0
        if waiting and waiting + first > limit_seconds:
            raise QueueFullError(
                f"the queue is full: {waiting:.0f} s of audio wait, {limit_seconds:g} s is the limit",
                retry_after=_retry_after(self._throughput.seconds([*before, *self._due(now)])),
            )
        if self._waiting and len(self._waiting) + len(jobs) > MAX_JOBS:
            raise QueueFullError(
                f"the queue is full: {len(self._waiting)} clips wait, {MAX_JOBS} is the limit",
                retry_after=_retry_after(self._throughput.seconds([*before, *self._waiting])),
            )
        own = self._throughput.seconds(jobs)
        others = self._throughput.seconds([*before, *self._due(now + own)])
        others += sum(admission.ahead(now + own) for admission in self._admissions)
        there = deadline - now
        if (before or self._waiting) and others + own > CERTAIN * there:
            raise WaitTooLongError(
                f"what waits already takes {others:.1f} s, and the request is wanted within {max(there, 0):.1f} s",
                retry_after=_retry_after(others + own - CERTAIN * there),
            )

    def add(self, jobs: Sequence[AnyJob], admission: Admission | None = None) -> None:
        """Let `jobs` wait, each until it would be its turn if the engine had nothing else to do; by their `admission`.

        What is added meanwhile comes between: a long request does not hold up others with all of its clips. Nor do
        others hold it up for good, since nothing goes before what has been due for longer.
        """
        before = 0.0
        for job in jobs:
            seconds = self._throughput.seconds([job])
            if admission is None:
                job.due += before
            else:
                admission.submit(job, seconds)
            before += seconds
            insort(self._waiting, job, key=_due)
        self._show()

    def take(self, jobs: Collection[AnyJob]) -> None:
        """Let `jobs` wait no longer."""
        taken = set(jobs)
        self._waiting = [job for job in self._waiting if job not in taken]
        self._show()

    def put_back(self, parts: Sequence[list[AnyJob]]) -> None:
        """Let each of `parts` run before all others, as a batch of its own."""
        self._again.extendleft(reversed(parts))
        self._show()

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
        self._show()

    def drop_done(self) -> None:
        """Forget those that nobody waits for, or that have their outcome."""
        self._waiting = [job for job in self._waiting if not job.future.done()]
        self._show()

    def clear(self) -> list[AnyJob]:
        """Forget all, and return them."""
        jobs = [*self._to_run_again, *self._waiting]
        self._waiting, self._again = [], deque()
        self._show()
        return jobs

    def _due(self, until: float) -> Sequence[AnyJob]:
        return self._waiting[: bisect_right(self._waiting, until, key=_due)]

    def _show(self) -> None:
        samples = sum(job.samples for job in self._waiting) + sum(job.samples for job in self._to_run_again)
        self._gauge.set(samples / self._sample_rate)


def _due(job: AnyJob) -> float:
    return job.due


def _retry_after(seconds: float) -> int:
    return min(LONGEST_RETRY_SECONDS, max(1, math.ceil(seconds)))
