"""Clips -> batches. One thread per engine and no wait window: whenever the engine is free, it takes what is there."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from engines.batch import Clip, Row
from engines.errors import EngineError
from server.errors import ApiError, EngineFailedError, ModelNotReadyError, QueueFullError, ShuttingDownError

logger = logging.getLogger(__name__)

# Weight of the newest batch in the running mean of the throughput that Retry-After is computed from.
NEWEST = 0.2
LONGEST_RETRY_SECONDS = 60


class Named(Protocol):
    """A graph, as far as the scheduler looks at it."""

    @property
    def name(self) -> str:
        """Outputs of one name come from one run."""
        ...


class BatchEngine(Protocol):
    """What the scheduler asks of engines.engine.Engine."""

    def graph_for(self, outputs: Iterable[str]) -> Named:
        """Return the graph that computes `outputs`."""
        ...

    def run(self, clips: Sequence[Clip], outputs: Sequence[str]) -> list[Row]:
        """Run `clips` as one batch; the result of each is what it would be alone."""
        ...


@dataclass(frozen=True)
class Limits:
    """Bounds in seconds of audio, and the share of a batch that may be padding."""

    queue_seconds: float
    batch_seconds: float
    max_padding: float


@dataclass(frozen=True)
class Result:
    """One clip's outputs, how long it waited, and how long the batch took that it was in."""

    row: Row
    queue_seconds: float
    inference_seconds: float


Outcome = Result | ApiError


@dataclass(eq=False)
class Job:
    """A clip on its way; cancelling `future` drops it, unless it is running already.

    The future's result may be an error. It is not the future's exception, since nobody may be left to retrieve it.
    """

    clip: Clip
    outputs: frozenset[str]
    graph: str
    future: asyncio.Future[Outcome]
    submitted: float = field(default_factory=time.perf_counter)

    @property
    def samples(self) -> int:
        """Length of the clip."""
        return int(self.clip.shape[0])


def form_batch(waiting: Sequence[Job], budget: float, max_padding: float) -> list[Job]:
    """Return the oldest job, then those nearest to it in length that fit.

    A batch runs one graph; longest x count stays within `budget` samples, and the padded share within `max_padding`.
    The oldest goes whatever its length, so that none starves.
    """
    oldest = waiting[0]
    batch = [oldest]
    longest = total = oldest.samples
    same_graph = (job for job in waiting[1:] if job.graph == oldest.graph)
    for job in sorted(same_graph, key=lambda job: abs(job.samples - oldest.samples)):
        padded = max(longest, job.samples) * (len(batch) + 1)
        if padded <= budget and padded - total - job.samples <= max_padding * padded:
            batch.append(job)
            longest = max(longest, job.samples)
            total += job.samples
    return batch


class Scheduler:
    """Queues the clips of one engine and runs them in batches, until it is closed. Make it inside a running loop."""

    def __init__(self, name: str, engine: BatchEngine, sample_rate: int, limits: Limits) -> None:
        self._engine = engine
        self._sample_rate = sample_rate
        self._limits = limits
        self._waiting: list[Job] = []
        self._running_samples = 0
        self._samples_per_second = 0.0  # measured; 0 until the first batch
        self._arrived = asyncio.Event()
        self._closing = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"engine-{name}")
        self._loop = asyncio.create_task(self._serve(), name=f"scheduler-{name}")

    def submit(self, clips: Sequence[Clip], outputs: Iterable[str]) -> list[Job]:
        """Queue `clips`, all or none. Raises QueueFullError, ShuttingDownError; KeyError for an unknown output.

        A queue that is empty takes any request: else one that is larger than the queue would never be served.
        """
        if self._closing:
            raise ShuttingDownError("the server is shutting down", retry_after=1)
        wanted = frozenset(outputs)
        graph = self._engine.graph_for(wanted).name
        self._drop_cancelled()
        waiting = sum(job.samples for job in self._waiting)
        samples = sum(clip.shape[0] for clip in clips)
        if waiting and waiting + samples > self._limits.queue_seconds * self._sample_rate:
            raise QueueFullError(
                f"the queue is full: {waiting / self._sample_rate:.0f} s of audio wait, "
                f"{self._limits.queue_seconds:g} s is the limit",
                retry_after=self._retry_after(waiting),
            )
        loop = asyncio.get_running_loop()
        jobs = [Job(clip, wanted, graph, loop.create_future()) for clip in clips]
        self._waiting += jobs
        self._arrived.set()
        return jobs

    async def close(self) -> None:
        """Take nothing new, run what waits, and end."""
        self._closing = True
        self._arrived.set()
        await self._loop
        self._thread.shutdown(wait=False)

    def _retry_after(self, waiting: int) -> int:
        """Return the seconds until what waits and what runs is done, by the measured throughput."""
        if not self._samples_per_second:
            return 1
        seconds = (waiting + self._running_samples) / self._samples_per_second
        return min(LONGEST_RETRY_SECONDS, max(1, math.ceil(seconds)))

    def _drop_cancelled(self) -> None:
        self._waiting = [job for job in self._waiting if not job.future.done()]

    async def _serve(self) -> None:
        while True:
            self._drop_cancelled()
            if self._waiting:
                await self._run_next()
            elif self._closing:
                return
            else:
                self._arrived.clear()
                await self._arrived.wait()

    async def _run_next(self) -> None:
        """Run one batch and hand out its results; whatever happens, each of its jobs gets an outcome."""
        batch = form_batch(self._waiting, self._limits.batch_seconds * self._sample_rate, self._limits.max_padding)
        taken = set(batch)
        self._waiting = [job for job in self._waiting if job not in taken]
        self._running_samples = sum(job.samples for job in batch)
        started = time.perf_counter()
        try:
            outcomes = await asyncio.get_running_loop().run_in_executor(self._thread, self._run, batch)
        except Exception:  # such as no memory for a thread; the loop must live
            logger.exception("a batch of %d clips could not be run", len(batch))
            outcomes = [EngineFailedError("the engine failed; see the server's log") for _ in batch]
        self._measure(self._running_samples / (time.perf_counter() - started))
        self._running_samples = 0
        for job, outcome in zip(batch, outcomes, strict=True):
            if not job.future.done():
                job.future.set_result(outcome)

    def _measure(self, samples_per_second: float) -> None:
        old = self._samples_per_second or samples_per_second
        self._samples_per_second = old + NEWEST * (samples_per_second - old)

    def _run(self, batch: Sequence[Job]) -> list[Outcome]:
        """Run `batch` in the engine's thread. If it fails, each clip runs alone, so that the guilty one fails alone."""
        started = time.perf_counter()
        outputs = sorted(frozenset().union(*(job.outputs for job in batch)))
        try:
            rows = self._engine.run([job.clip for job in batch], outputs)
        except EngineError:  # a graph that is loaded at its first use, and cannot be
            logger.exception("a graph cannot be used")
            return [ModelNotReadyError("the model cannot compute these outputs; see the server's log") for _ in batch]
        except Exception:
            logger.exception("the engine failed on a batch of %d clips", len(batch))
            if len(batch) == 1:
                return [EngineFailedError("the engine failed on this clip; see the server's log")]
            return [outcome for job in batch for outcome in self._run([job])]
        seconds = time.perf_counter() - started
        return [_outcome(job, row, started - job.submitted, seconds) for job, row in zip(batch, rows, strict=True)]


def _outcome(job: Job, row: Row, queue_seconds: float, inference_seconds: float) -> Outcome:
    wanted = {name: row[name] for name in job.outputs}
    bad = sorted(name for name, array in wanted.items() if not np.isfinite(array).all())
    if bad:
        return EngineFailedError(f"the engine's {', '.join(bad)} for this clip are not finite")
    return Result(wanted, queue_seconds, inference_seconds)
