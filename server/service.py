"""What each task's route does: uploads -> clips -> rows -> results, the heavy parts off the event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from engines.batch import Clip, Row
from server.audio import Bounds, decode
from server.errors import ApiError, RequestError
from server.models import Models, Served
from server.scheduler import Job, Result
from server.settings import Settings

T = TypeVar("T")


@dataclass(frozen=True)
class Source:
    """One upload: the field of the request that holds it, and what reads it; that may raise a RequestError."""

    param: str | None
    read: Callable[[], bytes]


@dataclass(frozen=True)
class ClipRow:
    """One clip's outputs, and its duration in seconds."""

    row: Row
    duration: float


class Service:
    """The models, and the threads that decode audio and encode answers."""

    def __init__(self, settings: Settings) -> None:
        """Read the models folder; raises EngineNotFoundError or ValueError, see Models."""
        self.settings = settings
        self.models = Models(settings)
        self._threads = ThreadPoolExecutor(settings.decode_threads, thread_name_prefix="decode")
        # Requests that decode at one time: with the queue's bound it bounds the decoded audio in memory.
        self._decoding = asyncio.Semaphore(settings.decode_threads)

    async def close(self) -> None:
        """Finish what was admitted."""
        await self.models.close()
        self._threads.shutdown(wait=False)

    async def offload(self, function: Callable[[], T]) -> T:
        """Run `function` in one of the threads."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, function)

    async def run(
        self, served: Served, outputs: Sequence[str], sources: Sequence[Source], timings: dict[str, float]
    ) -> list[ClipRow]:
        """Decode all sources, then run them; each gets its `outputs`. One bad source fails before anything runs.

        `timings` receives the seconds of decoding with the wait for it, and over its clips the longest wait in the
        queue and the longest batch. Cancelling drops the clips that wait. Raises ApiError, with the
        `param` of the source at fault.
        """
        started = time.perf_counter()
        async with self._decoding:
            clips = await self._decode(served, sources)
            timings["decode"] = time.perf_counter() - started
            jobs = served.scheduler.submit(clips, outputs)
        results = await _results(jobs, sources)
        timings["queue"] = max(result.queue_seconds for result in results)
        timings["inference"] = max(result.inference_seconds for result in results)
        rate = served.engine.manifest.sample_rate
        return [ClipRow(result.row, len(clip) / rate) for result, clip in zip(results, clips, strict=True)]

    async def _decode(self, served: Served, sources: Sequence[Source]) -> list[Clip]:
        bounds = Bounds.of(served.engine.manifest, self.settings.max_clip_seconds)
        loop = asyncio.get_running_loop()
        pending = [loop.run_in_executor(self._threads, _open_and_decode, source, bounds) for source in sources]
        try:
            clips = []
            for future in pending:
                clip = await future
                if isinstance(clip, RequestError):
                    raise clip
                clips.append(clip)
            return clips
        finally:
            for future in pending:
                future.cancel()


def _open_and_decode(source: Source, bounds: Bounds) -> Clip | RequestError:
    """Return the clip, or what is wrong with it: nobody may be left to retrieve an exception."""
    try:
        return decode(source.read(), bounds)
    except RequestError as error:
        error.param = source.param
        return error


async def _results(jobs: Sequence[Job], sources: Sequence[Source]) -> list[Result]:
    """Await `jobs`; whatever ends the waiting, those that still wait are dropped."""
    try:
        results = []
        for job, source in zip(jobs, sources, strict=True):
            outcome = await job.future
            if isinstance(outcome, ApiError):
                outcome.param = source.param
                raise outcome
            results.append(outcome)
        return results
    finally:
        for job in jobs:
            job.future.cancel()
