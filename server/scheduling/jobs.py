"""Clips on their way through an engine, and which of them go together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from engines.batch import Clip, Row
from server.decoding.search import Hypothesis, Plan
from server.errors import ApiError


@dataclass
class Timed:
    """How long a clip waited, and how long the engine had it: for one batch, or for all of its tokens."""

    queue_seconds: float
    inference_seconds: float


@dataclass
class Result(Timed):
    """One clip's outputs; whoever reads them may put what is kept of them in their place."""

    row: Row


@dataclass
class Written(Timed):
    """What one clip may say, best first."""

    hypotheses: Sequence[Hypothesis]


TimedT = TypeVar("TimedT", bound=Timed)


@dataclass(eq=False)
class Job(Generic[TimedT]):
    """A clip on its way; cancelling its future drops it, unless it is in a batch that runs already."""

    clip: Clip
    future: asyncio.Future[TimedT | ApiError]

    def __post_init__(self) -> None:
        self.submitted = self.due = time.perf_counter()
        self.alone = False  # shares no batch, since one that it was in has failed

    @property
    def samples(self) -> int:
        """Length of the clip."""
        return int(self.clip.shape[0])

    @property
    def group(self) -> Hashable:
        """Jobs of one group can share a batch."""
        raise NotImplementedError

    def settle(self, outcome: TimedT | ApiError) -> None:
        """Hand out `outcome`, if anybody still waits for it.

        An error too is the future's result: it is not its exception, since nobody may be left to retrieve that.
        """
        if not self.future.done():
            self.future.set_result(outcome)


@dataclass(eq=False)
class BatchJob(Job[Result]):
    """A clip whose `outputs` are computed by `graph`."""

    outputs: frozenset[str]
    graph: str

    @property
    def group(self) -> Hashable:
        """A batch runs one graph."""
        return self.graph


@dataclass(eq=False)
class GenerationJob(Job[Written]):
    """A clip about which a decoder writes."""

    plan: Plan

    @property
    def group(self) -> Hashable:
        """The clips of a batch have as many rows each."""
        return GenerationJob, self.plan.beams


AnyJob = Job[Any]
JobT = TypeVar("JobT", bound=AnyJob)


def form_batch(waiting: Sequence[JobT], budget: float, max_padding: float) -> list[JobT]:
    """Return the first job, then those nearest to it in length that fit.

    A batch has jobs of one group; longest x count stays within `budget` samples, the padded share within `max_padding`.
    The first goes whatever its length, so that none starves.
    """
    first = waiting[0]
    batch = [first]
    if first.alone:
        return batch
    longest = total = first.samples
    others = (job for job in waiting[1:] if job.group == first.group and not job.alone)
    for job in sorted(others, key=lambda job: abs(job.samples - first.samples)):
        padded = max(longest, job.samples) * (len(batch) + 1)
        if padded <= budget and padded - total - job.samples <= max_padding * padded:
            batch.append(job)
            longest = max(longest, job.samples)
            total += job.samples
    return batch
