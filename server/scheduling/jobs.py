"""Clips on their way through an engine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, TypeVar

from engines.batch import Clip, Row
from server.decoding.search import Hypothesis, Plan
from server.errors import ApiError

Kind = Literal["run", "write"]


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

    kind: ClassVar[Kind]  # the times that jobs of one kind take can be compared

    clip: Clip
    future: asyncio.Future[TimedT | ApiError]

    def __post_init__(self) -> None:
        self.submitted = self.due = time.perf_counter()
        self.samples = int(self.clip.shape[0])
        self.has_failed = False  # a batch that it was in
        self.needs_all_memory = False  # since it failed for want of it beside others

    @property
    def group(self) -> Hashable:
        """Jobs of one group can share a batch."""
        raise NotImplementedError

    @property
    def layers(self) -> int:
        """How many layers of the encoder it needs; only compared within a group."""
        return 1

    @property
    def work(self) -> float:
        """Samples through all layers that take as long."""
        return self.samples

    def settle(self, outcome: TimedT | ApiError) -> None:
        """Hand out `outcome`, if anybody still waits for it.

        An error too is the future's result: it is not its exception, since nobody may be left to retrieve that.
        """
        if not self.future.done():
            self.future.set_result(outcome)


@dataclass(eq=False)
class BatchJob(Job[Result]):
    """A clip whose `outputs` are computed by the first `needed` of `there` layers of the encoder."""

    kind = "run"

    outputs: frozenset[str]
    needed: int = 1
    there: int = 1

    @property
    def group(self) -> Hashable:
        """Each needs one run."""
        return BatchJob

    @property
    def layers(self) -> int:
        """Those that compute the outputs."""
        return self.needed

    @property
    def work(self) -> float:
        """A layer costs what another does."""
        return self.samples * self.needed / self.there


@dataclass(eq=False)
class GenerationJob(Job[Written]):
    """A clip about which a decoder writes."""

    kind = "write"

    plan: Plan

    @property
    def group(self) -> Hashable:
        """The clips of a batch have as many rows each."""
        return GenerationJob, self.plan.beams


AnyJob = Job[Any]
JobT = TypeVar("JobT", bound=AnyJob)
