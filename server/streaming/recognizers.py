"""The windows of a stream -> texts, through the queue of the engine."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

from prometheus_client import Histogram

from engines.batch import Clip, Row
from engines.manifest import LOGITS
from server.decoding.ctc import IDS, LOG_PROBS
from server.decoding.search import Hypothesis
from server.errors import ApiError, QueueFullError
from server.metrics import SECONDS_BUCKETS
from server.models.model import Served
from server.scheduling.admission import Admission
from server.scheduling.jobs import Job, TimedT
from server.schemas.options import TranscribeOptions
from server.settings import Settings
from server.streaming.cuts import Cut, OnSilence, Overlapping
from server.streaming.texts import Path, Text, Texts
from server.tasks.transcribe import Transcribe, Write
from server.windows import Geometry, Span, Window

T = TypeVar("T")

TEXT_SECONDS = Histogram(
    "sonant_stream_text_duration_seconds",
    "What a complete window of a stream takes to its final text, with its time in the queue.",
    ["model"],
    buckets=SECONDS_BUCKETS,
)


class Offload(Protocol):
    """Runs what takes some milliseconds in a thread."""

    def __call__(self, function: Callable[[], T]) -> Coroutine[Any, Any, T]:
        """Return what `function` does."""
        ...


class Recognizer(Protocol):
    """What one stream asks of its engine, one window after the other. Cancelling drops what waits."""

    cut: Cut
    has_partials: bool

    async def final(self, clip: Clip, span: Span, is_last: bool) -> Text:
        """Return what does not change any more once the window `span` of the stream, which is `clip`, is there."""
        ...

    async def partial(self, clip: Clip, span: Span, seconds: float) -> Text | None:
        """Return what may follow the final texts, as far as `span` reaches; None if `seconds` do not seem to do."""
        ...


class Labelling:
    """For an engine that labels frames (CTC)."""

    has_partials = True

    def __init__(self, served: Served, options: TranscribeOptions, settings: Settings, offload: Offload) -> None:
        """Raise what the task does for options that cannot be."""
        manifest = served.engine.manifest
        self._task = Transcribe(manifest, options, settings)
        self.cut: Cut = Overlapping(Geometry.of(manifest, self._task.outputs, options))
        self._served = served
        self._offload = offload
        self._admission = Admission(0.0)
        self._samples_per_frame = manifest.output(LOGITS).samples_per_frame or 1
        assert manifest.ctc is not None  # noqa: S101  # the task has seen to it
        with_words = options.timestamps == "word"
        self._texts = Texts(manifest.ctc, self._samples_per_frame / manifest.sample_rate, with_words)

    async def final(self, clip: Clip, span: Span, is_last: bool) -> Text:
        """See Recognizer. What was begun is never refused for a full queue: a stream has one window at a time."""
        started = time.perf_counter()
        row = await self._run(clip, admitted=self._admission)
        text = await self._offload(lambda: self._texts.final(self._path(row, span), is_last))
        TEXT_SECONDS.labels(self._served.engine.name).observe(time.perf_counter() - started)
        return text

    async def partial(self, clip: Clip, span: Span, seconds: float) -> Text | None:
        """See Recognizer."""
        try:
            row = await self._run(clip, deadline=time.perf_counter() + seconds)
        except QueueFullError:
            return None
        return await self._offload(lambda: self._texts.partial(self._path(row, span)))

    async def _run(self, clip: Clip, deadline: float = math.inf, admitted: Admission | None = None) -> Row:
        [job] = self._served.scheduler.submit([clip], self._task.outputs, deadline, admitted)
        return (await outcome(job)).row

    def _path(self, row: Row, span: Span) -> Path:
        window = Window(self._task.reduce(Window(row, span)), span)
        return {name: window.kept(name, self._samples_per_frame) for name in (IDS, LOG_PROBS)}


@dataclass(frozen=True)
class _Written:
    hypotheses: Sequence[Hypothesis]
    span: Span


class Writing:
    """For an engine that writes the text token by token: about each window when it is complete."""

    has_partials = False

    def __init__(self, served: Served, options: TranscribeOptions, settings: Settings, offload: Offload) -> None:
        """Raise what the task does for options that cannot be."""
        manifest = served.engine.manifest
        assert served.text is not None  # noqa: S101  # an engine that writes has a tokenizer
        self._task = Write(manifest, served.text, options, settings)
        self.cut: Cut = OnSilence(Geometry.of(manifest, (), options), manifest.sample_rate)
        self._served = served
        self._offload = offload
        self._admission = Admission(0.0)
        self._rate = manifest.sample_rate
        self._has_begun = False

    async def final(self, clip: Clip, span: Span, is_last: bool) -> Text:
        """See Recognizer."""
        started = time.perf_counter()
        [job] = self._served.scheduler.submit_generation([clip], self._task.plan, admitted=self._admission)
        written = _Written((await outcome(job)).hypotheses, span)
        found = await self._offload(partial(self._task.result, [written]))
        TEXT_SECONDS.labels(self._served.engine.name).observe(time.perf_counter() - started)
        # As the task joins the texts of several windows; that of one stays as it is.
        text = found.text if is_last and not span.start else found.text.strip()
        if text and self._has_begun:
            text = f" {text}"
        self._has_begun = self._has_begun or bool(text)
        return Text(text, span.start / self._rate, span.end / self._rate, found.confidence)

    async def partial(self, clip: Clip, span: Span, seconds: float) -> Text | None:
        """See Recognizer: there is none, since each would be written anew from its first token."""
        return None


def recognizer(served: Served, options: TranscribeOptions, settings: Settings, offload: Offload) -> Recognizer:
    """Return what transcribes a stream; raises OptionError and TaskNotSupportedError as the tasks do."""
    kind = Writing if served.engine.manifest.generation else Labelling
    return kind(served, options, settings, offload)


async def outcome(job: Job[TimedT]) -> TimedT:
    """Return what comes of `job`, or raise it; cancelling drops the job."""
    try:
        found = await job.future
    finally:
        job.future.cancel()
    if isinstance(found, ApiError):
        raise found
    return found
