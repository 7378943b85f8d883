"""The windows of a request on their way through the engine: a bounded number at a time, each reduced as it is done."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np

from engines.batch import Clip
from server.audio.decoders import Source
from server.decoding.search import Hypothesis, Plan
from server.errors import ApiError
from server.memory import Hold
from server.models.model import Served
from server.scheduling.admission import Admission
from server.scheduling.jobs import Job, Result, Timed, TimedT, Written
from server.spool import forget
from server.tasks import Task
from server.windows import Span, Window

T = TypeVar("T")

# Windows that are on their way at any rate: while one is reduced or sent, the engine has another, and a third is next.
LEAST_WINDOWS = 3


class Offload(Protocol):
    """Runs what takes time in a thread."""

    async def __call__(self, function: Callable[[], T]) -> T:
        """Return what `function` returns."""
        ...


@dataclass(frozen=True)
class Cut:
    """A decoded clip, its windows, and its sample rate in Hz."""

    source: Source
    clip: Clip
    spans: Sequence[Span]
    sample_rate: int

    @property
    def duration(self) -> float:
        """Seconds."""
        return len(self.clip) / self.sample_rate


class Piece(NamedTuple):
    """One window that is still to be run."""

    source: Source
    clip: Clip
    span: Span

    @property
    def samples(self) -> int:
        """Those that it sees."""
        return self.span.end - self.span.start


def pieces(cuts: Iterable[Cut]) -> list[Piece]:
    """Return all windows of `cuts`."""
    return [Piece(cut.source, cut.clip, span) for cut in cuts for span in cut.spans]


def outline(waiting: Sequence[Piece]) -> list[Clip]:
    """Return what stands for clips that will be submitted bit by bit: the first, and one as long as all others."""
    first, *others = waiting
    rest = sum(piece.samples for piece in others)
    return [np.broadcast_to(np.float32(0), samples) for samples in (first.samples, rest) if samples]


@dataclass(frozen=True)
class ClipRow:
    """What is kept of one clip's outputs, window by window, and its duration in seconds."""

    windows: Sequence[Window]
    duration: float


class Runner:
    """Runs the decoded clips of one request for a task, and notes how long they waited and took."""

    def __init__(
        self,
        served: Served,
        task: Task,
        cuts: Sequence[Cut],
        timings: dict[str, float],
        deadline: float,
        offload: Offload,
    ) -> None:
        self.cuts = cuts
        self._scheduler = served.scheduler
        self._manifest = served.engine.manifest
        self._task = task
        self._timings = timings
        self._deadline = deadline
        self._offload = offload

    @property
    def is_cut(self) -> bool:
        """Whether any of the clips is."""
        return any(len(cut.spans) > 1 for cut in self.cuts)

    async def rows(self, answer: Hold) -> list[ClipRow]:
        """Run all clips; what is kept of them is taken from `answer` before, and stays there. Raises ApiError."""
        waiting = pieces(self.cuts)
        answer.take(self._task.kept.size(self._manifest, (piece.span for piece in waiting)))
        if self.is_cut:
            async with aclosing(self._flow(waiting)) as windows:
                found = iter([window async for window in windows])
        else:
            found = iter(await self._together())
        return [ClipRow([next(found) for _ in cut.spans], cut.duration) for cut in self.cuts]

    def in_order(self, answer: Hold) -> AsyncGenerator[Window, None]:
        """Yield the windows of all clips, one after the other.

        Who does not take them, holds back those that follow. What is kept of as many as are on their way at a time is
        taken from `answer`. Raises ApiError.
        """
        waiting = pieces(self.cuts)
        answer.take(self._task.kept.size(self._manifest, self._ahead(waiting)))
        return self._flow(waiting)

    def last_first(self, answer: Hold) -> AsyncGenerator[Window, None]:
        """Yield the last window of each clip, which tells how many frames there are; then the others, as `in_order`."""
        last = [Piece(cut.source, cut.clip, cut.spans[-1]) for cut in self.cuts]
        others = [Piece(cut.source, cut.clip, span) for cut in self.cuts for span in cut.spans[:-1]]
        answer.take(self._task.kept.size(self._manifest, [*(piece.span for piece in last), *self._ahead(others)]))
        return self._flow([*last, *others])

    @property
    def _room(self) -> float:
        return self._scheduler.busy_seconds * self._manifest.sample_rate

    def _ahead(self, waiting: Sequence[Piece]) -> list[Span]:
        """Return what stands for the windows that are on their way at a time, and the one that is sent."""
        longest = max(waiting, key=lambda piece: piece.samples)
        return [longest.span] * min(len(waiting), 1 + max(LEAST_WINDOWS, int(self._room // longest.samples)))

    async def _together(self) -> list[Window]:
        """Run clips that are not cut; those that wait are dropped where one fails."""
        jobs = self._scheduler.submit([cut.clip for cut in self.cuts], self._task.outputs, self._deadline)
        results = [self._result(job, cut.source, cut.spans[0]) for job, cut in zip(jobs, self.cuts, strict=True)]
        return await gathered(results, jobs)

    async def _flow(self, waiting: Sequence[Piece]) -> AsyncGenerator[Window, None]:
        with self._scheduler.admission(outline(waiting), self._task.outputs, self._deadline) as admitted:
            work = ((partial(self._run, piece, admitted), piece.samples) for piece in waiting)
            async with aclosing(ahead_of(work, self._room)) as windows:
                async for window in windows:
                    yield window

    async def _run(self, piece: Piece, admitted: Admission) -> Window:
        view = piece.clip[piece.span.start : piece.span.end]
        [job] = self._scheduler.submit([view], self._task.outputs, self._deadline, admitted)
        try:
            return await self._result(job, piece.source, piece.span)
        finally:
            job.future.cancel()
            forget(view)

    async def _result(self, job: Job[Result], source: Source, span: Span) -> Window:
        result = await outcome(job, source)
        note(self._timings, result)
        if self._task.reduce is not None:  # in place, since the job too keeps the result
            result.row = await self._offload(partial(self._task.reduce, Window(result.row, span)))
        return Window(result.row, span)


@dataclass(frozen=True)
class TextWindow:
    """What may be said in one window, best first, and where it lies in its clip."""

    hypotheses: Sequence[Hypothesis]
    span: Span


@dataclass(frozen=True)
class ClipText:
    """What may be said in one clip, window by window, and its duration in seconds."""

    windows: Sequence[TextWindow]
    duration: float


class Writer:
    """Has a decoder write about the decoded clips of one request."""

    def __init__(
        self, served: Served, plan: Plan, cuts: Sequence[Cut], timings: dict[str, float], deadline: float
    ) -> None:
        self._scheduler = served.scheduler
        self._rate = served.engine.manifest.sample_rate
        self._plan = plan
        self.cuts = cuts
        self._timings = timings
        self._deadline = deadline

    async def texts(self) -> list[ClipText]:
        """Write about all clips. Raises ApiError."""
        if any(len(cut.spans) > 1 for cut in self.cuts):
            async with aclosing(self.in_order()) as windows:
                found = iter([window async for window in windows])
        else:
            jobs = self._scheduler.submit_generation([cut.clip for cut in self.cuts], self._plan, self._deadline)
            work = [self._text(job, cut.source, cut.spans[0]) for job, cut in zip(jobs, self.cuts, strict=True)]
            found = iter(await gathered(work, jobs))
        return [ClipText([next(found) for _ in cut.spans], cut.duration) for cut in self.cuts]

    async def in_order(self) -> AsyncGenerator[TextWindow, None]:
        """Yield what is written about each window of all clips, one after the other. Raises ApiError."""
        waiting = pieces(self.cuts)
        with self._scheduler.admission(outline(waiting), self._plan, self._deadline) as admitted:
            work = ((partial(self._write, piece, admitted), piece.samples) for piece in waiting)
            async with aclosing(ahead_of(work, self._scheduler.live_seconds * self._rate)) as windows:
                async for window in windows:
                    yield window

    async def _write(self, piece: Piece, admitted: Admission) -> TextWindow:
        view = piece.clip[piece.span.start : piece.span.end]
        [job] = self._scheduler.submit_generation([view], self._plan, self._deadline, admitted)
        try:
            return await self._text(job, piece.source, piece.span)
        finally:
            job.future.cancel()
            forget(view)

    async def _text(self, job: Job[Written], source: Source, span: Span) -> TextWindow:
        written = await outcome(job, source)
        note(self._timings, written)
        return TextWindow(written.hypotheses, span)


async def ahead_of(
    work: Iterable[tuple[Callable[[], Coroutine[Any, Any, T]], int]], room: float
) -> AsyncGenerator[T, None]:
    """Yield the results of `work` in its order; as much of it is under way as has room by its sizes, two at least.

    Whatever ends this cancels what is under way.
    """
    todo = iter(work)
    coming = next(todo, None)
    under_way: deque[tuple[asyncio.Task[T], int]] = deque()
    taken = 0
    try:
        while coming or under_way:
            while coming and (len(under_way) < LEAST_WINDOWS or taken + coming[1] <= room):
                start, size = coming
                under_way.append((asyncio.create_task(start()), size))
                taken += size
                coming = next(todo, None)
            task, size = under_way[0]
            result = await task
            under_way.popleft()
            taken -= size
            yield result
            del result, task
    finally:
        left = [task for task, _ in under_way]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


async def gathered(results: Sequence[Coroutine[Any, Any, T]], jobs: Sequence[Job[TimedT]]) -> list[T]:
    """Await the `results` of `jobs` until the first fails; whatever ends it, jobs that still wait are dropped."""
    try:
        return [await results[0]] if len(results) == 1 else await asyncio.gather(*results)
    finally:
        for job in jobs:
            job.future.cancel()


async def outcome(job: Job[TimedT], source: Source) -> TimedT:
    """Return what comes of `job`, or raise it with the `param` of `source`."""
    found = await job.future
    if isinstance(found, ApiError):
        found.param = source.param
        raise found
    return found


def note(timings: dict[str, float], result: Timed) -> None:
    """Take the longest wait and the longest batch into `timings`."""
    timings["queue"] = max(timings.get("queue", 0.0), result.queue_seconds)
    timings["inference"] = max(timings.get("inference", 0.0), result.inference_seconds)
