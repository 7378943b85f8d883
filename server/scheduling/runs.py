"""One batch through the engine: what each clip gets, and what is counted."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
from prometheus_client import Counter, Gauge, Histogram

from engines.batch import Clip, Row
from server.errors import ApiError, EngineFailedError
from server.metrics import COUNT_BUCKETS, RATIO_BUCKETS, SECONDS_BUCKETS
from server.scheduling.batches import Batch
from server.scheduling.jobs import AnyJob, BatchJob, Result
from server.scheduling.limits import Limits

CLIPS = Histogram("sonant_batch_clips", "Clips in a batch.", ["model"], buckets=COUNT_BUCKETS)
PADDING = Histogram("sonant_batch_padding_ratio", "Share of a batch that is padding.", ["model"], buckets=RATIO_BUCKETS)
AUDIO = Counter("sonant_engine_audio_seconds_total", "Audio that an engine has run, without padding.", ["model"])
BUSY = Counter("sonant_engine_busy_seconds_total", "Time that engines had batches; over audio: real time.", ["model"])
WORKERS = Gauge("sonant_engine_workers", "Batches that an engine runs at a time.", ["model"])
QUEUE_LIMIT = Gauge("sonant_queue_limit_audio_seconds", "Audio that may wait for an engine: queue_seconds.", ["model"])
WAITED = Histogram(
    "sonant_clip_queue_seconds",
    "Wait of a clip until its batch began.",
    ["model"],
    buckets=SECONDS_BUCKETS,
)


class RunningEngine(Protocol):
    """What is asked of engines.engine.Engine."""

    def run(self, clips: Sequence[Clip], outputs: Sequence[str]) -> list[Row]:
        """Run `clips` as one batch; the result of each is what it would be alone."""
        ...


class BatchMetrics:
    """What is counted of one model's batches."""

    def __init__(self, model: str, sample_rate: int) -> None:
        self._sample_rate = sample_rate
        self._clips, self._padding, self._waited = CLIPS.labels(model), PADDING.labels(model), WAITED.labels(model)
        self._audio, self._busy = AUDIO.labels(model), BUSY.labels(model)
        self._workers, self._queue_limit = WORKERS.labels(model), QUEUE_LIMIT.labels(model)

    def limited(self, limits: Limits) -> None:
        """Say how the engine is used from now on."""
        self._workers.set(limits.workers)
        self._queue_limit.set(limits.queue_seconds)

    def ran(self, jobs: Sequence[AnyJob], seconds: float) -> None:
        """Count a batch that took so long, and has just ended."""
        batch = Batch.of(jobs)
        self._clips.observe(batch.count)
        self._padding.observe(1 - batch.samples / batch.padded)
        self._audio.inc(batch.samples / self._sample_rate)
        self.stepped(seconds)
        began = time.perf_counter() - seconds
        for job in jobs:
            self._waited.observe(max(0.0, began - job.submitted))

    def stepped(self, seconds: float) -> None:
        """Count a call of the engine that took so long, also one that writes about clips which were counted before."""
        self._busy.inc(seconds)


def wanted(batch: Iterable[BatchJob]) -> list[str]:
    """Return the outputs that any of `batch` wants."""
    return sorted(frozenset[str]().union(*(job.outputs for job in batch)))


def run_batch(engine: RunningEngine, batch: Sequence[BatchJob]) -> dict[BatchJob, Result | ApiError]:
    """Return what comes of each clip of `batch` that somebody still waits for; call it in the engine's thread."""
    awaited = [job for job in batch if not job.future.done()]
    if not awaited:
        return {}
    started = time.perf_counter()
    rows = engine.run([job.clip for job in awaited], wanted(awaited))
    seconds = time.perf_counter() - started
    outcomes = [_outcome(job, row, started - job.submitted, seconds) for job, row in zip(awaited, rows, strict=True)]
    return dict(zip(awaited, outcomes, strict=True))


def _outcome(job: BatchJob, row: Row, queue_seconds: float, inference_seconds: float) -> Result | ApiError:
    own = {name: row[name] for name in job.outputs}
    bad = sorted(name for name, array in own.items() if not np.isfinite(array).all())
    if bad:
        return EngineFailedError(f"the engine's {', '.join(bad)} for this clip are not finite")
    return Result(queue_seconds, inference_seconds, own)
