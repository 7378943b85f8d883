"""Clips -> batches. One thread per engine and no wait window: whenever the engine is free, it takes what is there.

Clips that a decoder writes about are advanced by one token at a time, and other batches run in between: neither does a
long text keep a short request waiting, nor a full queue a text that has begun.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

import numpy as np

from engines.batch import Clip, Row
from engines.errors import EngineError
from server.decoding.search import Plan
from server.errors import ApiError, EngineFailedError, ModelNotReadyError, QueueFullError, ShuttingDownError
from server.scheduling.jobs import AnyJob, BatchJob, GenerationJob, JobT, Result, form_batch
from server.scheduling.live import GeneratingEngine, Live, LiveBatch

logger = logging.getLogger(__name__)

T = TypeVar("T")

# Weight of the newest batch in the running mean of the throughput that Retry-After is computed from.
NEWEST = 0.2
LONGEST_RETRY_SECONDS = 60


class Named(Protocol):
    """A graph, as far as the scheduler looks at it."""

    @property
    def name(self) -> str:
        """Outputs of one name come from one run."""
        ...


class BatchEngine(GeneratingEngine, Protocol):
    """What the scheduler asks of engines.engine.Engine."""

    def graph_for(self, outputs: Iterable[str]) -> Named:
        """Return the graph that computes `outputs`."""
        ...

    def run(self, clips: Sequence[Clip], outputs: Sequence[str]) -> list[Row]:
        """Run `clips` as one batch; the result of each is what it would be alone."""
        ...


@dataclass(frozen=True)
class Limits:
    """Bounds in seconds of audio, the share of a batch that may be padding, and how many beams may be live.

    `batch_seconds` holds for each batch, and for all live ones together.
    """

    queue_seconds: float
    batch_seconds: float
    max_padding: float
    live_beams: int


class Scheduler:
    """Queues the clips of one engine and runs them in batches, until it is closed. Make it inside a running loop."""

    def __init__(self, name: str, engine: BatchEngine, sample_rate: int, limits: Limits) -> None:
        self._engine = engine
        self._sample_rate = sample_rate
        self._limits = limits
        self._budget = limits.batch_seconds * sample_rate
        self._waiting: list[AnyJob] = []  # by when they are due
        self._running_samples = 0
        self._live = Live(self._budget, limits.live_beams)
        self._samples_per_second = 0.0  # measured; 0 until the first batch
        self._arrived = asyncio.Event()
        self._closing = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"engine-{name}")
        self._loop = asyncio.create_task(self._serve(), name=f"scheduler-{name}")

    def submit(self, clips: Sequence[Clip], outputs: Iterable[str]) -> list[BatchJob]:
        """Queue `clips`, all or none. Raises QueueFullError, ShuttingDownError; KeyError for an unknown output.

        A queue that is empty takes any request: else one that is larger than the queue would never be served.
        """
        wanted = frozenset(outputs)
        graph = self._engine.graph_for(wanted).name
        loop = asyncio.get_running_loop()
        return self._queue([BatchJob(clip, loop.create_future(), wanted, graph) for clip in clips])

    def submit_generation(self, clips: Sequence[Clip], plan: Plan) -> list[GenerationJob]:
        """Queue `clips` to be written about, as `submit` does. What is cancelled ends before its next token."""
        loop = asyncio.get_running_loop()
        return self._queue([GenerationJob(clip, loop.create_future(), plan) for clip in clips])

    async def close(self) -> None:
        """Take nothing new, run what waits, and end."""
        self._closing = True
        self._arrived.set()
        await self._loop
        self._thread.shutdown(wait=False)

    def _queue(self, jobs: list[JobT]) -> list[JobT]:
        if self._closing:
            raise ShuttingDownError("the server is shutting down", retry_after=1)
        self._drop_cancelled()
        waiting = sum(job.samples for job in self._waiting)
        samples = sum(job.samples for job in jobs)
        if waiting and waiting + samples > self._limits.queue_seconds * self._sample_rate:
            raise QueueFullError(
                f"the queue is full: {waiting / self._sample_rate:.0f} s of audio wait, "
                f"{self._limits.queue_seconds:g} s is the limit",
                retry_after=self._retry_after(waiting),
            )
        self._admit(jobs)
        return jobs

    def _admit(self, jobs: Sequence[AnyJob]) -> None:
        """Let `jobs` wait, each until it would be its turn if the engine had nothing else to do.

        What is submitted meanwhile comes between: a long clip does not hold up others with all of its windows. Nor do
        others hold it up for good, since nothing goes before what has been due for longer.
        """
        before = 0
        for job in jobs:
            if self._samples_per_second:
                job.due += before / self._samples_per_second
            before += job.samples
        self._waiting = sorted([*self._waiting, *jobs], key=lambda job: job.due)
        self._arrived.set()

    def _retry_after(self, waiting: int) -> int:
        """Return the seconds until what waits and what runs is done, by the measured throughput."""
        if not self._samples_per_second:
            return 1
        seconds = (waiting + self._running_samples + self._live.samples) / self._samples_per_second
        return min(LONGEST_RETRY_SECONDS, max(1, math.ceil(seconds)))

    def _drop_cancelled(self) -> None:
        self._waiting = [job for job in self._waiting if not job.future.done()]

    async def _serve(self) -> None:
        while True:
            self._drop_cancelled()
            batch = self._next_batch()
            if batch:
                await self._run_next(batch)
            elif self._live:
                await self._step_next()
            elif self._closing:
                return
            else:
                self._arrived.clear()
                await self._arrived.wait()

    def _next_batch(self) -> list[AnyJob]:
        """Return the jobs that run now; none where the live batches go on.

        Where the first clip that is to be written about finds no room, no other does, so that none starves.
        """
        if self._live.is_owed:
            return []
        first = next((job for job in self._waiting if isinstance(job, GenerationJob)), None)
        may_start = first is None or self._live.has_room(first)
        waiting = [job for job in self._waiting if may_start or isinstance(job, BatchJob)]
        if not waiting:
            return []
        if isinstance(waiting[0], GenerationJob):
            clips = self._live.clips(waiting[0].plan.beams)
            return form_batch(waiting, self._live.room, self._limits.max_padding)[:clips]
        return form_batch(waiting, self._budget, self._limits.max_padding)

    async def _run_next(self, batch: Sequence[AnyJob]) -> None:
        """Run `batch`, or start to write about its clips."""
        taken = set(batch)
        self._waiting = [job for job in self._waiting if job not in taken]
        self._running_samples = sum(job.samples for job in batch)
        started = time.perf_counter()
        try:
            await self._dispatch(batch)
        except Exception as error:  # such as no memory for a thread; the loop must live
            self._fail(batch, error, is_sole=len(batch) == 1)
        self._running_samples = 0
        self._live.hold_up(time.perf_counter() - started)

    async def _dispatch(self, batch: Sequence[AnyJob]) -> None:
        to_write = [job for job in batch if isinstance(job, GenerationJob)]
        if to_write:
            self._live.add(await self._in_thread(partial(LiveBatch, self._engine, to_write)))
            return
        to_run = [job for job in batch if isinstance(job, BatchJob)]
        started = time.perf_counter()
        outcomes = await self._in_thread(partial(self._run, to_run))
        self._measure(self._running_samples / (time.perf_counter() - started))
        for job, outcome in zip(to_run, outcomes, strict=True):
            job.settle(outcome)

    async def _step_next(self) -> None:
        """Write one token about each clip of one live batch, and hand out the texts that have ended."""
        batch = self._live.next()
        left = {job for job in batch.jobs if job.future.done()}
        started = time.perf_counter()
        try:
            outcomes = await self._in_thread(partial(batch.step, left))
        except Exception as error:
            self._live.remove(batch)
            self._fail([job for job in batch.jobs if job not in left], error, is_sole=batch.is_sole)
            return
        self._live.advanced(time.perf_counter() - started)
        for job, outcome in outcomes.items():
            job.settle(outcome)
        if not batch.jobs:
            self._live.remove(batch)
            self._measure(batch.samples / batch.engine_seconds)

    async def _in_thread(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)

    def _measure(self, samples_per_second: float) -> None:
        old = self._samples_per_second or samples_per_second
        self._samples_per_second = old + NEWEST * (samples_per_second - old)

    def _fail(self, batch: Sequence[AnyJob], error: Exception, is_sole: bool) -> None:
        """Settle a job that failed and was the sole one from the start; run all others again, each alone."""
        if isinstance(error, EngineError):  # a graph that is loaded at its first use, and cannot be
            logger.error("a graph cannot be used", exc_info=error)
            for job in batch:
                job.settle(ModelNotReadyError("the model cannot compute these outputs; see the server's log"))
            return
        logger.error("the engine failed on a batch of %d clips", len(batch), exc_info=error)
        if is_sole:
            for job in batch:
                job.settle(EngineFailedError("the engine failed on this clip; see the server's log"))
            return
        for job in batch:
            job.alone = True
        self._waiting = [*batch, *self._waiting]

    def _run(self, batch: Sequence[BatchJob]) -> list[Result | ApiError]:
        """Run `batch` in the engine's thread."""
        started = time.perf_counter()
        outputs = sorted(frozenset().union(*(job.outputs for job in batch)))
        rows = self._engine.run([job.clip for job in batch], outputs)
        seconds = time.perf_counter() - started
        return [_outcome(job, row, started - job.submitted, seconds) for job, row in zip(batch, rows, strict=True)]


def _outcome(job: BatchJob, row: Row, queue_seconds: float, inference_seconds: float) -> Result | ApiError:
    wanted = {name: row[name] for name in job.outputs}
    bad = sorted(name for name, array in wanted.items() if not np.isfinite(array).all())
    if bad:
        return EngineFailedError(f"the engine's {', '.join(bad)} for this clip are not finite")
    return Result(queue_seconds, inference_seconds, wanted)
