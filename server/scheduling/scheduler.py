"""Clips -> batches. No wait window: whenever a worker of the engine is free, it takes what is there.

Clips that a decoder writes about are advanced by one token at a time, and other batches run in between: neither does a
long text keep a short request waiting, nor a full queue a text that has begun.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

from engines.batch import Clip
from server.decoding.search import Plan
from server.errors import ApiError, EngineHungError, ShuttingDownError
from server.scheduling.admission import Admission
from server.scheduling.engine import BatchEngine
from server.scheduling.faults import Faults
from server.scheduling.formation import Formation
from server.scheduling.jobs import AnyJob, BatchJob, GenerationJob, JobT, Result
from server.scheduling.limits import Limits
from server.scheduling.live import Live, LiveBatch
from server.scheduling.queue import Queue
from server.scheduling.runs import BatchMetrics, run_batch, wanted
from server.scheduling.throughput import Throughput
from server.scheduling.workers import Workers

logger = logging.getLogger(__name__)

T = TypeVar("T")

RESTART_SECONDS = 10  # what a client is told to wait for a server that starts again
# After a fault of the scheduler itself, so that one that stays does not take the event loop.
PAUSE_SECONDS = 0.1


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
        """`on_hung` is told once, with the seconds, when a call of the engine does not come back, or none succeeds."""
        self._name = name
        self._engine = engine
        self._sample_rate = sample_rate
        self._limits = limits
        self._throughput = Throughput(limits.workers, limits.seconds_per_second / sample_rate)
        self._queue = Queue(name, sample_rate, self._throughput)
        self._live = Live()
        self._workers = Workers(name, limits.workers)
        self._faults = Faults(name, self._queue)
        self._formation = Formation(
            engine, sample_rate, limits, self._queue, self._throughput, self._live, self._faults
        )
        self._metrics = BatchMetrics(name, sample_rate)
        self._metrics.limited(limits)
        self._running: dict[asyncio.Task[None], Sequence[AnyJob]] = {}
        self._wake = asyncio.Event()
        self._closing = False
        self._lost = ""  # why the engine is given up
        self._on_hung = on_hung or (lambda name, seconds: None)
        self._loop = asyncio.create_task(self._serve(), name=f"scheduler-{name}")

    @property
    def limits(self) -> Limits:
        """How the engine is used now."""
        return self._limits

    def tune(self, limits: Limits) -> None:
        """Go on with other limits."""
        self._limits = self._formation.limits = limits
        self._throughput.workers = limits.workers
        self._throughput.know(limits.seconds_per_second / self._sample_rate)
        self._workers.resize(limits.workers)
        self._metrics.limited(limits)
        self._wake.set()

    @property
    def busy_seconds(self) -> float:
        """The audio that keeps all workers busy: a batch that each runs, one that is next, and what that is made of."""
        return 3 * self._limits.workers * self._limits.batch_seconds

    @property
    def live_seconds(self) -> float:
        """The audio of all clips that are written about at a time."""
        return self._limits.live_seconds

    def check(self, deadline: float = math.inf, jobs: Sequence[AnyJob] = ()) -> None:
        """Raise what `submit` would raise for `jobs`; without any, for a request that is not decoded yet."""
        if self._lost:
            raise self._lost_error()
        if self._closing:
            raise ShuttingDownError("the server is shutting down", retry_after=1)
        self._queue.check(jobs, self._in_the_engine, self._limits.queue_seconds, deadline)

    @contextmanager
    def admission(
        self, clips: Sequence[Clip], what: Iterable[str] | Plan, deadline: float = math.inf
    ) -> Iterator[Admission]:
        """Admit `clips`, which are submitted bit by bit within the context; `what` is outputs, or a plan.

        Raises what `submit` or `submit_generation` would raise for all of them.
        """
        loop = asyncio.get_running_loop()
        if isinstance(what, Plan):
            jobs: list[AnyJob] = [GenerationJob(clip, loop.create_future(), what) for clip in clips]
        else:
            jobs = [*self._batch_jobs(clips, what)]
        self.check(deadline, jobs)
        try:
            with self._queue.admission(jobs) as admission:
                yield admission
        finally:
            self._wake.set()

    def submit(
        self,
        clips: Sequence[Clip],
        outputs: Iterable[str],
        deadline: float = math.inf,
        admitted: Admission | None = None,
    ) -> list[BatchJob]:
        """Queue `clips`, all or none; `deadline` is on the clock of time.perf_counter.

        Raises QueueFullError, WaitTooLongError, ShuttingDownError, EngineHungError; what was `admitted` only the last.
        KeyError for an unknown output.
        """
        return self._add(self._batch_jobs(clips, outputs), deadline, admitted)

    def submit_generation(
        self, clips: Sequence[Clip], plan: Plan, deadline: float = math.inf, admitted: Admission | None = None
    ) -> list[GenerationJob]:
        """Queue `clips` to be written about, as `submit` does. What is cancelled ends before its next token."""
        loop = asyncio.get_running_loop()
        return self._add([GenerationJob(clip, loop.create_future(), plan) for clip in clips], deadline, admitted)

    async def close(self) -> None:
        """Take nothing new, run what waits or was admitted, and end. Where the engine hangs, its thread is left."""
        self._closing = True
        self._wake.set()
        await self._loop
        self._workers.close()

    def _batch_jobs(self, clips: Sequence[Clip], outputs: Iterable[str]) -> list[BatchJob]:
        names = frozenset(outputs)
        needed, there = self._engine.graph_for(names).layers, self._engine.full_graph.layers
        loop = asyncio.get_running_loop()
        return [BatchJob(clip, loop.create_future(), names, needed, there) for clip in clips]

    def _add(self, jobs: list[JobT], deadline: float, admitted: Admission | None) -> list[JobT]:
        if admitted is None:
            self.check(deadline, jobs)
        elif self._lost:
            raise self._lost_error()
        self._queue.add(jobs, admitted)
        self._wake.set()
        return jobs

    @property
    def _in_the_engine(self) -> set[AnyJob]:
        jobs = {job for running in (*self._running.values(), self._live.jobs) for job in running}
        return {job for job in jobs if not job.future.done()}

    async def _serve(self) -> None:
        """Keep the workers busy. Nothing that happens to a job ends this."""
        while not self._lost:
            self._wake.clear()
            try:
                self._queue.drop_done()
                while self._start_next():
                    pass
            except Exception as error:  # such as no memory
                logger.exception("model %s: no batch can be formed", self._name)
                self._faults.settle(self._queue.waiting[:1] or self._queue.clear(), error)
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            if self._closing and not self._running and not self._queue.is_owed:
                return
            await self._wake.wait()

    def _start_next(self) -> bool:
        """Start what is to be done next; return whether there was anything, and a worker for it.

        One batch may wait for a worker: its thread takes it up without a pause.
        """
        running, workers = len(self._running), self._limits.workers
        if running > workers:
            return False
        is_ahead = running == workers
        batch = self._formation.batch_ahead() if is_ahead else self._formation.next_batch(is_idle=not running)
        if batch:
            self._start(self._run(batch), batch)
            return True
        live = None if is_ahead else self._live.next()
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
            logger.error("model %s: a batch was lost", self._name, exc_info=error)
            self._faults.settle(jobs, error)
        self._wake.set()

    async def _run(self, batch: Sequence[AnyJob]) -> None:
        """Run `batch`, or start to write about its clips."""
        to_write = [job for job in batch if isinstance(job, GenerationJob)]
        to_run = [job for job in batch if isinstance(job, BatchJob)]
        has_company = len(self._running) > 1 or bool(self._live)
        outcomes: dict[BatchJob, Result | ApiError] = {}
        try:
            if to_run:
                await self._load(to_run)
                outcomes, seconds = await self._call(partial(run_batch, self._engine, to_run), batch)
            else:
                live, seconds = await self._call(partial(LiveBatch, self._engine, to_write), batch)
                self._live.add(live)
        except Exception as error:
            self._faults.retry(batch, error, is_sole=len(batch) == 1, has_company=has_company)
            await self._suspect()
            return
        ran: list[AnyJob] = [*to_write, *outcomes]
        if not ran:  # nobody waited any more when it was its turn
            return
        self._live.hold_up(seconds)
        self._faults.recovered()
        self._metrics.ran(ran, seconds)
        if outcomes:
            self._throughput.measure("run", sum(job.work for job in outcomes), seconds)
        for job, outcome in outcomes.items():
            job.settle(outcome)

    async def _load(self, batch: Sequence[BatchJob]) -> None:
        """Load the graph that `batch` needs, if it is the first to do so: apart, since this takes its time."""
        outputs = wanted(batch)
        if self._engine.needs_load(outputs):
            await self._workers.call(partial(self._engine.load_for, outputs))

    async def _step(self, batch: LiveBatch) -> None:
        """Write one token about each clip of one live batch, and hand out the texts that have ended."""
        left = {job for job in batch.jobs if job.future.done()}
        try:
            outcomes, seconds = await self._call(partial(batch.step, left), batch.jobs)
        except Exception as error:
            self._live.remove(batch)
            has_company = len(self._running) > 1 or bool(self._live)
            jobs = [job for job in batch.jobs if job not in left]
            self._faults.retry(jobs, error, is_sole=batch.is_sole, has_company=has_company)
            await self._suspect()
            return
        self._live.advanced(seconds)
        self._metrics.stepped(seconds)
        for job, outcome in outcomes.items():
            job.settle(outcome)
        if batch.jobs:
            self._live.add(batch)
            return
        self._live.remove(batch)
        if batch.written:
            self._throughput.measure("write", batch.written, batch.engine_seconds)

    async def _call(self, function: Callable[[], T], jobs: Sequence[AnyJob]) -> tuple[T, float]:
        """Call the engine in one of its threads, under the eyes of the watchdog; also the seconds that it took."""
        calls = 1 + (len(self._running) > self._limits.workers)  # one ends before this begins
        expected = self._throughput.alone(self._in_the_engine if calls > 1 else jobs)
        return await self._workers.watched(function, calls * self._limits.watchdog_seconds, expected, self._hang)

    async def _suspect(self) -> None:
        """Give the engine up if nothing but failures comes of it, and its golden clips fail too."""
        if not self._faults.is_suspicious:
            return
        works, _ = await self._call(self._engine.recheck, ())
        if works:
            self._faults.cleared()
            return
        logger.critical("model %s: the engine fails on every clip, its golden clips included", self._name)
        self._give_up("the engine does not work any more; the server restarts", 0.0)

    def _hang(self, seconds: float) -> None:
        logger.critical("model %s: a call of the engine has not come back for %.0f s", self._name, seconds)
        self._give_up("the engine hangs; the server restarts", seconds)

    def _give_up(self, reason: str, seconds: float) -> None:
        """Settle all that waits or runs: an engine that does not come back cannot be stopped, nor used again."""
        if self._lost:
            return
        self._lost = reason
        for job in {*self._queue.clear(), *self._in_the_engine}:
            job.settle(self._lost_error())
        self._wake.set()
        self._on_hung(self._name, seconds)

    def _lost_error(self) -> EngineHungError:
        return EngineHungError(self._lost, retry_after=RESTART_SECONDS)
