"""What each task's route does: uploads -> clips -> rows -> results, the heavy parts off the event loop."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from prometheus_client import Counter

from engines.batch import Clip
from server.audio.clips import ClipHold, Clips
from server.audio.decode import Bounds
from server.audio.decoders import Decoders, Source, ThreadDecoders
from server.audio.processes import ProcessDecoders
from server.errors import RequestError
from server.memory import Hold, Memory
from server.models.model import Served
from server.models.table import Models
from server.running import ClipRow, ClipText, Cut, Runner, Writer
from server.settings import Settings
from server.spool import Spool
from server.steps import Steps, take
from server.tasks import Task, Windowed, WritingTask
from server.windows import Geometry, Span, cut_on_silence, spans

T = TypeVar("T")

ADVICE = "ask for fewer clips or layers, pool the frames, or take application/x-npy or application/vnd.safetensors"

# Made in a quarter of a millisecond, which is what the way to another thread and back takes.
AT_ONCE_BYTES = 128 * 1024

RECEIVED_AUDIO = Counter("sonant_received_audio_seconds_total", "Audio that was decoded, by its duration.", ["model"])


class Service:
    """The models, and the threads that decode audio and make answers: these do not wait for those."""

    def __init__(self, settings: Settings, on_hung: Callable[[str, float], None] | None = None) -> None:
        """Read the models folder; raises EngineNotFoundError or ValueError, see Models and Spool."""
        self.settings = settings
        self.spool = Spool(settings.spool, settings.spool_bytes)
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
        # Of what takes several steps; a thread is left to what is quick, if there are two.
        self._turns = asyncio.Semaphore(max(1, settings.answer_threads - 1))
        self._decoded = Clips(settings.decoded_bytes, self.spool)
        self._answers = Memory("answer", settings.answer_bytes, ADVICE)
        self._streams = Memory("audio of streams", settings.stream_bytes)

    async def close(self) -> None:
        """Finish what was admitted."""
        await self.models.close()
        await self._decoders.close()
        self.spool.close()
        self._threads.shutdown(wait=False)
        self._answering.shutdown(wait=False)

    def answer(self) -> Hold:
        """Return what a request's answer takes, to be held until it is sent."""
        return self._answers.hold()

    def stream(self) -> Hold:
        """Return what the audio of a stream takes, to be held until it ends."""
        return self._streams.hold()

    async def offload(self, function: Callable[[], T], size: float = math.inf) -> T:
        """Run `function` in one of the threads that make answers, or here, where it makes so few bytes.

        `size` is of what is copied, or made base64: JSON of numbers, which takes longer, has more bytes too.
        """
        if size <= AT_ONCE_BYTES:
            return function()
        return await asyncio.get_running_loop().run_in_executor(self._answering, function)

    async def offload_steps(self, steps: Steps[T]) -> T:
        """Take `steps` in these threads, from the second on in turns with others' steps. Cancelling ends them."""
        loop = asyncio.get_running_loop()

        def give_turn(_: Future[Any]) -> None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._turns.release)

        ended = await self.offload(partial(take, steps))
        while ended is None:
            await self._turns.acquire()
            step = self._answering.submit(take, steps)
            step.add_done_callback(give_turn)  # not when it is cancelled: the thread goes on to its end
            ended = await asyncio.wrap_future(step)
        return ended[0]

    async def run(
        self,
        served: Served,
        task: Task,
        sources: Sequence[Source],
        timings: dict[str, float],
        answer: Hold,
        deadline: float = math.inf,
    ) -> list[ClipRow]:
        """Decode all sources, then run them for `task`; errors, timings and deadline as of `opened`.

        What is kept is taken from `answer` before anything runs, and stays there.
        """
        async with self.opened(served, task, sources, timings, deadline) as runner:
            return await runner.rows(answer)

    @asynccontextmanager
    async def opened(
        self,
        served: Served,
        task: Task,
        sources: Sequence[Source],
        timings: dict[str, float],
        deadline: float = math.inf,
    ) -> AsyncIterator[Runner]:
        """Decode all sources, and give what runs them for `task`. One bad source fails before any runs.

        A clip that is longer than the engine takes is refused, or cut into windows where the task says so.

        Where it cannot be done by `deadline`, on the clock of time.perf_counter, it is refused, before decoding if the
        queue tells that already.

        `timings` receives the seconds of decoding with the wait for it, and over its windows the longest wait in the
        queue and the longest batch. Cancelling drops the windows that wait. Raises ApiError, with the `param` of the
        source at fault.
        """
        async with self._decoded_clips(served, task, sources, timings, deadline) as clips:
            rate = served.engine.manifest.sample_rate
            cuts = [
                Cut(source, clip, of_source(source, partial(spans, len(clip), task.geometry)), rate)
                for source, clip in zip(sources, clips, strict=True)
            ]
            yield Runner(served, task, cuts, timings, deadline, self.offload)

    async def generate(
        self,
        served: Served,
        task: WritingTask,
        sources: Sequence[Source],
        timings: dict[str, float],
        deadline: float = math.inf,
    ) -> list[ClipText]:
        """Decode all sources, then write about them by the plan of `task`; the rest as of `opened`."""
        async with self.writing(served, task, sources, timings, deadline) as writer:
            return await writer.texts()

    @asynccontextmanager
    async def writing(
        self,
        served: Served,
        task: WritingTask,
        sources: Sequence[Source],
        timings: dict[str, float],
        deadline: float = math.inf,
    ) -> AsyncIterator[Writer]:
        """Decode all sources, and give what writes about them by the plan of `task`; the rest as of `opened`.

        Cancelling drops the windows that wait, and those that are written about before their next token.
        """
        async with self._decoded_clips(served, task, sources, timings, deadline) as clips:
            rate = served.engine.manifest.sample_rate
            cuts = [
                Cut(source, clip, await self._silences(clip, task.geometry, rate), rate)
                for source, clip in zip(sources, clips, strict=True)
            ]
            yield Writer(served, task.plan, cuts, timings, deadline)

    async def _silences(self, clip: Clip, geometry: Geometry, sample_rate: int) -> Sequence[Span]:
        if len(clip) <= max(geometry.longest, geometry.window):
            return [Span.whole(len(clip))]
        return await self.offload(partial(cut_on_silence, clip, geometry, sample_rate))

    @asynccontextmanager
    async def _decoded_clips(
        self,
        served: Served,
        task: Windowed,
        sources: Sequence[Source],
        timings: dict[str, float],
        deadline: float,
    ) -> AsyncIterator[list[Clip]]:
        started = time.perf_counter()
        served.scheduler.check(deadline)
        with self._decoded.hold(sum(source.spooled for source in sources)) as hold:
            async with self._decoding:
                served.scheduler.check(deadline)  # others were decoded meanwhile
                clips = await self._decode(served, sources, hold, task.windowed)
                timings["decode"] = time.perf_counter() - started
            yield clips

    async def _decode(self, served: Served, sources: Sequence[Source], hold: ClipHold, windowed: bool) -> list[Clip]:
        """Return the clips of `sources`, whose bytes `hold` holds; raises what is wrong with the first bad one."""
        bounds = Bounds.of(served.engine.manifest, self.settings.max_clip_seconds, windowed)
        clips = await self._decode_all(sources, bounds, hold)
        RECEIVED_AUDIO.labels(served.engine.name).inc(sum(map(len, clips)) / bounds.sample_rate)
        return clips

    async def _decode_all(self, sources: Sequence[Source], bounds: Bounds, hold: ClipHold) -> list[Clip]:
        if len(sources) == 1:  # as most requests: without a task of its own
            return [await self._decode_one(sources[0], bounds, hold)]
        decoding = [asyncio.create_task(self._decode_one(source, bounds, hold)) for source in sources]
        try:
            return [await clip for clip in decoding]
        finally:
            for clip in decoding:
                clip.cancel()
            await asyncio.gather(*decoding, return_exceptions=True)  # of the others nobody asks

    async def _decode_one(self, source: Source, bounds: Bounds, hold: ClipHold) -> Clip:
        try:
            return await self._decoders.decode(source, bounds, hold)
        except RequestError as error:
            error.param = source.param
            raise


@dataclass(frozen=True)
class Context:
    """What one request works with.

    `timings` receives seconds by stage. `answer` is what the answer takes, held until it is sent.
    """

    service: Service
    timings: dict[str, float]
    answer: Hold


def of_source(source: Source, function: Callable[[], T]) -> T:
    """Return what `function` returns, or raise its RequestError with the `param` of `source`."""
    try:
        return function()
    except RequestError as error:
        error.param = source.param
        raise
