"""Clips -> batches. No wait window: whenever a worker of the engine is free, it takes what is there.

Clips that a decoder writes about are advanced by one token at a time, and other batches run in between: neither does a
long text keep a short request waiting, nor a full queue a text that has begun.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

from engines.batch import Clip
from server.decoding.search import Plan
from server.errors import ApiError, EngineHungError, ShuttingDownError
from server.scheduling.batches import Room, form_batch
from server.scheduling.faults import Faults
from server.scheduling.jobs import AnyJob, BatchJob, GenerationJob, JobT
from server.scheduling.live import GeneratingEngine, Live, LiveBatch
from server.scheduling.queue import Queue, Throughput
from server.scheduling.runs import BatchMetrics, RunningEngine, run_batch
from server.scheduling.workers import Workers

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Graph(Protocol):
    """A graph, as far as the scheduler looks at it."""

    @property
    def layers(self) -> int:
        """How many layers of the encoder it runs."""
        ...


class BatchEngine(GeneratingEngine, RunningEngine, Protocol):
    """What the scheduler asks of engines.engine.Engine."""

    @property
    def full_graph(self) -> Graph:
        """The graph that runs every layer, and computes every output."""
        ...

    def graph_for(self, outputs: Iterable[str]) -> Graph:
        """Return the graph that computes `outputs`; KeyError names one that none computes."""
        ...

    def max_rows(self, samples: int) -> int:
        """Return how many clips of that length one batch may hold."""
        ...


@dataclass(frozen=True)
class Limits:
    """How one engine is used.

    Bounds in seconds of audio, the share of a batch that may be padding, and how many beams may be live;
    `batch_seconds` holds for each batch, and for all live ones together. `workers` batches run at a time; a call that
    takes longer than `watchdog_seconds` hangs. As measured, a batch costs `fixed_seconds`, and `seconds_per_second` of
    padded audio; 0 where nothing was measured.
    """

    queue_seconds: float
    batch_seconds: float
    max_padding: float
    live_beams: int
    workers: int = 1
    watchdog_seconds: float = 120.0
    fixed_seconds: float = 0.0
    seconds_per_second: float = 0.0

    @property
    def spare_seconds(self) -> float:
        """Return the padded audio that costs as much as a batch does whatever is in it."""
        return self.fixed_seconds / self.seconds_per_second if self.seconds_per_second else 0.0


class Scheduler:
    """Queues the clips of one engine and runs them in batches, until it is closed. Make it inside a running loop."""

    def __init__(
        self,
        name: str,
        engine: BatchEngine,
        sample_rate: int,
        limits: Limits,
        on_hung: Callable[[str, float], None] | None = None,
    ) -> None:
        """`on_hung` is told once, with the seconds, when a call of the engine does not come back."""
        self._engine = engine
        self._sample_rate = sample_rate
        self._limits = limits
        known = sample_rate / limits.seconds_per_second if limits.seconds_per_second else 0.0
        self._throughput = Throughput(limits.workers, known)
        self._queue = Queue(name, sample_rate, self._throughput)
        self._live = Live()
        self._workers = Workers(name, limits.workers)
        self._faults = Faults(name, self._queue)
        self._metrics = BatchMetrics(name, sample_rate)
        self._running: dict[asyncio.Task[None], Sequence[AnyJob]] = {}
        self._wake = asyncio.Event()
        self._closing = False
        self._on_hung = on_hung or (lambda name, seconds: None)
        self._name = name
        self._hung: EngineHungError | None = None
        self._loop = asyncio.create_task(self._serve(), name=f"scheduler-{name}")

    def tune(self, limits: Limits) -> None:
        """Go on with other limits."""
        self._limits = limits
        self._throughput.workers = limits.workers
        self._workers.resize(limits.workers)
        self._wake.set()

    def check(self, deadline: float = math.inf, samples: int = 0) -> None:
        """Raise what `submit` would raise for so many `samples`: before the work of decoding them."""
        if self._hung:
            raise EngineHungError(self._hung.message, retry_after=self._hung.retry_after)
        if self._closing:
            raise ShuttingDownError("the server is shutting down", retry_after=1)
        running = {job for jobs in (*self._running.values(), self._live.jobs) for job in jobs if not job.future.done()}
        self._queue.check(samples, sum(job.samples for job in running), self._limits.queue_seconds, deadline)

    def submit(self, clips: Sequence[Clip], outputs: Iterable[str], deadline: float = math.inf) -> list[BatchJob]:
        """Queue `clips`, all or none; `deadline` is on the clock of time.perf_counter.

        Raises QueueFullError, WaitTooLongError, ShuttingDownError, EngineHungError; KeyError for an unknown output.
        """
        wanted = frozenset(outputs)
        depth = self._engine.graph_for(wanted).layers / max(self._engine.full_graph.layers, 1)
        loop = asyncio.get_running_loop()
        return self._add([BatchJob(clip, loop.create_future(), wanted, depth) for clip in clips], deadline)

    def submit_generation(self, clips: Sequence[Clip], plan: Plan, deadline: float = math.inf) -> list[GenerationJob]:
        """Queue `clips` to be written about, as `submit` does. What is cancelled ends before its next token."""
        loop = asyncio.get_running_loop()
        return self._add([GenerationJob(clip, loop.create_future(), plan) for clip in clips], deadline)

    async def close(self) -> None:
        """Take nothing new, run what waits, and end. Where the engine hangs, its thread is left behind."""
        self._closing = True
        self._wake.set()
        await self._loop
        self._workers.close()

    def abort(self, error: ApiError) -> None:
        """Settle all that waits or runs with `error`, and take nothing new."""
        self._closing = True
        running = [job for jobs in (*self._running.values(), self._live.jobs) for job in jobs]
        for job in [*self._queue.clear(), *running]:
            job.settle(error)
        self._wake.set()

    def _add(self, jobs: list[JobT], deadline: float) -> list[JobT]:
        self.check(deadline, sum(job.samples for job in jobs))
        self._queue.add(jobs)
        self._wake.set()
        return jobs

    async def _serve(self) -> None:
        """Keep the workers busy. Nothing that happens to a job ends this."""
        while True:
            self._wake.clear()
            self._queue.drop_cancelled()
            try:
                while len(self._running) < self._limits.workers and self._start_next():
                    pass
            except Exception as error:  # such as no memory
                logger.exception("model %s: no batch can be formed", self._name)
                self._faults.settle(self._queue.waiting[:1] or self._queue.clear(), error)
                continue
            if self._hung or (self._closing and not self._running):
                return
            await self._wake.wait()

    def _start_next(self) -> bool:
        """Start what is to be done next; return whether there was anything."""
        batch = self._next_batch()
        if batch:
            self._start(self._run(batch), batch)
            return True
        live = self._live.next()
        if live is not None:
            self._start(self._step(live), live.jobs)
        return live is not None

    def _start(self, work: Coroutine[Any, Any, None], jobs: Sequence[AnyJob]) -> None:
        task = asyncio.create_task(work)
        self._running[task] = jobs
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        jobs = self._running.pop(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception):  # not of the engine, whose errors are caught
            self._faults.settle(jobs, error)
        self._wake.set()

    def _next_batch(self) -> list[AnyJob]:
        """Take the jobs that run now from the queue; none where the live batches go on.

        Where the first clip that is to be written about finds no room, no other does, so that none starves.
        """
        again = self._queue.next_again()
        if again and self._may_start(again[0]):
            self._queue.take_again()
            return again
        waiting = self._queue.waiting
        if self._live.is_owed or not waiting:
            return []
        first = again[0] if again else next((job for job in waiting if isinstance(job, GenerationJob)), None)
        if first is not None and not self._may_start(first):
            waiting = [job for job in waiting if not isinstance(job, GenerationJob)]
        batch = form_batch(waiting, self._room(waiting[0])) if waiting else []
        if batch and isinstance(batch[0], GenerationJob):
            batch = batch[: self._live.clips(batch[0].plan.beams, self._limits.live_beams)]
        self._queue.take(batch)
        return batch

    def _may_start(self, job: AnyJob) -> bool:
        """Whether the live batches leave room for `job`; any may start, if there are none."""
        if not isinstance(job, GenerationJob) or not self._live:
            return True
        has_beams = self._live.clips(job.plan.beams, self._limits.live_beams) > 0
        return has_beams and job.samples <= self._live.room(self._budget)

    @property
    def _budget(self) -> float:
        return min(self._limits.batch_seconds * self._sample_rate, self._faults.max_samples)

    def _room(self, first: AnyJob) -> Room:
        padded = self._live.room(self._budget) if isinstance(first, GenerationJob) else self._budget
        spare = self._limits.spare_seconds * self._sample_rate
        return Room(padded, self._limits.max_padding, self._engine.max_rows, spare)

    async def _run(self, batch: Sequence[AnyJob]) -> None:
        """Run `batch`, or start to write about its clips."""
        started = time.perf_counter()
        to_write = [job for job in batch if isinstance(job, GenerationJob)]
        to_run = [job for job in batch if isinstance(job, BatchJob)]
        try:
            if to_write:
                self._live.add(await self._call(partial(LiveBatch, self._engine, to_write), batch))
            else:
                outcomes = await self._call(partial(run_batch, self._engine, to_run), batch)
        except Exception as error:
            self._faults.retry(batch, error, is_sole=len(batch) == 1)
            return
        finally:
            seconds = time.perf_counter() - started
            self._live.hold_up(seconds)
        self._faults.recovered()
        self._metrics.ran(batch, seconds)
        if to_write:
            return
        self._throughput.measure(sum(job.samples for job in batch), seconds)
        for job, outcome in zip(to_run, outcomes, strict=True):
            job.settle(outcome)

    async def _step(self, batch: LiveBatch) -> None:
        """Write one token about each clip of one live batch, and hand out the texts that have ended."""
        left = {job for job in batch.jobs if job.future.done()}
        started = time.perf_counter()
        try:
            outcomes = await self._call(partial(batch.step, left), batch.jobs)
        except Exception as error:
            self._live.remove(batch)
            self._faults.retry([job for job in batch.jobs if job not in left], error, is_sole=batch.is_sole)
            return
        self._live.advanced(time.perf_counter() - started)
        for job, outcome in outcomes.items():
            job.settle(outcome)
        if batch.jobs:
            self._live.add(batch)
            return
        self._live.remove(batch)
        self._throughput.measure(batch.samples, batch.engine_seconds)

    async def _call(self, function: Callable[[], T], jobs: Sequence[AnyJob]) -> T:
        """Call the engine in one of its threads."""
        expected = self._throughput.seconds(sum(job.samples for job in jobs)) * self._limits.workers
        return await self._workers.call(function, self._limits.watchdog_seconds, expected, self._hang)

    def _hang(self, seconds: float) -> None:
        """Give up: an engine that does not come back cannot be stopped, and nothing that waits will be done."""
        logger.critical("model %s: a call of the engine has not come back for %.0f s", self._name, seconds)
        self._hung = EngineHungError("the engine hangs; the server restarts", retry_after=10)
        self.abort(self._hung)
        self._on_hung(self._name, seconds)
