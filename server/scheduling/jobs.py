"""Clips on their way through an engine."""

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

    @property
    def samples(self) -> int:
        """Length of the clip."""
        return int(self.clip.shape[0])

    @property
    def group(self) -> Hashable:
        """Jobs of one group can share a batch."""
        raise NotImplementedError

    @property
    def depth(self) -> float:
        """Share of the encoder's layers that it needs."""
        return 1.0

    def settle(self, outcome: TimedT | ApiError) -> None:
        """Hand out `outcome`, if anybody still waits for it.

        An error too is the future's result: it is not its exception, since nobody may be left to retrieve that.
        """
        if not self.future.done():
            self.future.set_result(outcome)


@dataclass(eq=False)
class BatchJob(Job[Result]):
    """A clip whose `outputs` are computed by the first layers of the encoder, the share `layers` of them."""

    outputs: frozenset[str]
    layers: float = 1.0

    @property
    def group(self) -> Hashable:
        """Each needs one run."""
        return BatchJob

    @property
    def depth(self) -> float:
        """The share of the layers."""
        return self.layers


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
