"""What each task's route does: uploads -> clips -> rows -> results, the heavy parts off the event loop."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from prometheus_client import Counter

from engines.batch import Clip, Row
from server.audio.decode import Bounds
from server.audio.decoders import Decoders, Source, ThreadDecoders
from server.audio.processes import ProcessDecoders
from server.decoding.search import Hypothesis, Plan
from server.errors import ApiError, RequestError
from server.kept import Kept
from server.memory import Hold, Memory
from server.models.model import Served
from server.models.table import Models
from server.scheduling.jobs import BatchJob, Job, Result, Timed, TimedT
from server.settings import Settings
from server.windows import Window, cut

T = TypeVar("T")

ADVICE = "ask for fewer clips or layers, pool the frames, or take application/x-npy or application/vnd.safetensors"

RECEIVED_AUDIO = Counter("sonant_received_audio_seconds_total", "Audio that was decoded, by its duration.", ["model"])


@dataclass(frozen=True)
class ClipRow:
    """One clip's outputs, window by window, and its duration in seconds."""

    windows: Sequence[Window]
    duration: float

    @property
    def row(self) -> Row:
        """The outputs of a clip that was not windowed."""
        [window] = self.windows
        return window.row


@dataclass(frozen=True)
class ClipText:
    """What may be said in one clip, best first, and its duration in seconds."""

    hypotheses: Sequence[Hypothesis]
    duration: float


class Service:
    """The models, and the threads that decode audio and make answers: these do not wait for those."""

    def __init__(self, settings: Settings, on_hung: Callable[[str, float], None] | None = None) -> None:
        """Read the models folder; raises EngineNotFoundError or ValueError, see Models."""
        self.settings = settings
        self.models = Models(settings, on_hung)
        self._threads = ThreadPoolExecutor(settings.decode_threads, thread_name_prefix="decode")
        self._answering = ThreadPoolExecutor(settings.answer_threads, thread_name_prefix="answer")
        self._decoders: Decoders = (
            ProcessDecoders(settings.decoders, settings.decode_timeout)
            if settings.decoders
            else ThreadDecoders(self._threads, settings.decode_timeout, on_hung)
        )
        # Requests that decode at one time: the others may be refused before it is their turn.
        self._decoding = asyncio.Semaphore(settings.decoders or settings.decode_threads)
        self._decoded = Memory("decoded audio", settings.decoded_bytes)
        self._answers = Memory("answer", settings.answer_bytes, ADVICE)

    async def close(self) -> None:
        """Finish what was admitted."""
        await self.models.close()
        await self._decoders.close()
        self._threads.shutdown(wait=False)
        self._answering.shutdown(wait=False)

    def answer(self) -> Hold:
        """Return what a request's answer takes, to be held until it is sent."""
        return self._answers.hold()

    async def offload(self, function: Callable[[], T]) -> T:
        """Run `function` in one of the threads that make answers."""
        return await asyncio.get_running_loop().run_in_executor(self._answering, function)

    async def run(
        self,
        served: Served,
        kept: Kept,
        sources: Sequence[Source],
        timings: dict[str, float],
        answer: Hold,
        *,
        deadline: float = math.inf,
        windowed: bool = False,
        reduce: Callable[[Row], Row] | None = None,
    ) -> list[ClipRow]:
        """Decode all sources, then run them; each gets the outputs of `kept`. One bad source fails before any runs.

        A clip that is longer than the engine takes is refused, or cut into windows where it may be `windowed`. Of the
        outputs of each window, what `reduce` makes of them is kept, as soon as it is done: those of a long clip are
        large.

        What is `kept` is taken from `answer` before anything runs, and stays there.

        Where it cannot be done by `deadline`, on the clock of time.perf_counter, it is refused, before decoding if the
        queue tells that already.

        `timings` receives the seconds of decoding with the wait for it, and over its clips the longest wait in the
        queue and the longest batch. Cancelling drops the clips that wait. Raises ApiError, with the
        `param` of the source at fault.
        """
        started = time.perf_counter()
        manifest = served.engine.manifest
        served.scheduler.check(deadline)
        with self._decoded.hold() as hold:
            async with self._decoding:
                served.scheduler.check(deadline)  # others were decoded meanwhile
                clips = await self._decode(served, sources, hold, windowed)
                timings["decode"] = time.perf_counter() - started
                windows = [cut(clip, manifest.min_samples, manifest.max_samples) for clip in clips]
                pieces = [window for each in windows for window in each]
                answer.take(sum(kept.size(manifest, len(window)) for window in pieces))
                jobs = served.scheduler.submit(pieces, kept.outputs, deadline)
            owners = [source for source, each in zip(sources, windows, strict=True) for _ in each]
            results = await gathered(
                [self._result(job, source, reduce) for job, source in zip(jobs, owners, strict=True)], jobs
            )
            _note(timings, results)
            done = iter(results)
            rows = [[Window(next(done).row, len(window)) for window in each] for each in windows]
            return [ClipRow(each, len(clip) / manifest.sample_rate) for each, clip in zip(rows, clips, strict=True)]

    async def generate(
        self,
        served: Served,
        plan: Plan,
        sources: Sequence[Source],
        timings: dict[str, float],
        *,
        deadline: float = math.inf,
    ) -> list[ClipText]:
        """Decode all sources, then write about them by `plan`; deadline, timings and errors as of `run`.

        Cancelling drops the clips that wait, and those that are written about before their next token.
        """
        started = time.perf_counter()
        served.scheduler.check(deadline)
        with self._decoded.hold() as hold:
            async with self._decoding:
                served.scheduler.check(deadline)
                clips = await self._decode(served, sources, hold, windowed=False)
                timings["decode"] = time.perf_counter() - started
                jobs = served.scheduler.submit_generation(clips, plan, deadline)
            results = await gathered([outcome(job, source) for job, source in zip(jobs, sources, strict=True)], jobs)
            _note(timings, results)
            rate = served.engine.manifest.sample_rate
            return [ClipText(one.hypotheses, len(clip) / rate) for one, clip in zip(results, clips, strict=True)]

    async def _decode(self, served: Served, sources: Sequence[Source], hold: Hold, windowed: bool) -> list[Clip]:
        """Return the clips of `sources`, whose bytes `hold` holds; raises what is wrong with the first bad one."""
        bounds = Bounds.of(served.engine.manifest, self.settings.max_clip_seconds, windowed)
        decoding = [asyncio.create_task(self._decode_one(source, bounds, hold)) for source in sources]
        try:
            clips = [await clip for clip in decoding]
            RECEIVED_AUDIO.labels(served.engine.name).inc(sum(map(len, clips)) / served.engine.manifest.sample_rate)
            return clips
        finally:
            for clip in decoding:
                clip.cancel()
            await asyncio.gather(*decoding, return_exceptions=True)  # of the others nobody asks

    async def _decode_one(self, source: Source, bounds: Bounds, hold: Hold) -> Clip:
        try:
            return await self._decoders.decode(source, bounds, hold)
        except RequestError as error:
            error.param = source.param
            raise

    async def _result(self, job: BatchJob, source: Source, reduce: Callable[[Row], Row] | None) -> Result:
        result = await outcome(job, source)
        if reduce is not None:  # in place, since the job too keeps the result
            result.row = await self.offload(partial(reduce, result.row))
        return result


async def gathered(results: Sequence[Coroutine[Any, Any, TimedT]], jobs: Sequence[Job[TimedT]]) -> list[TimedT]:
    """Await the `results` of `jobs` until the first fails; whatever ends it, jobs that still wait are dropped."""
    try:
        return await asyncio.gather(*results)
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


def _note(timings: dict[str, float], results: Sequence[Timed]) -> None:
    timings["queue"] = max(result.queue_seconds for result in results)
    timings["inference"] = max(result.inference_seconds for result in results)
