"""One stream: takes its audio, as far as there is room, and gives its texts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from engines.batch import Clip
from server.errors import AudioEmptyError, AudioTooShortError, StreamTooLongError
from server.streaming.buffer import Buffer
from server.streaming.recognizers import Recognizer
from server.streaming.samples import Samples
from server.streaming.texts import Text
from server.windows import Span

# Beside the window in progress: what comes while the window before it is run. More than that is not read.
WAITING_SECONDS = 4.0


@dataclass(frozen=True)
class Partial:
    """What follows the final texts, as far as it is known: the next of either kind takes its place."""

    text: Text


@dataclass(frozen=True)
class Final:
    """A text that does not change any more."""

    text: Text


class Session:
    """Is fed by one task, and gives its texts to another."""

    def __init__(
        self, recognizer: Recognizer, samples: Samples, sample_rate: int, interim: float, longest: float
    ) -> None:
        """`interim` is how many seconds of new audio there are for a partial text, 0 for none; `longest` of all."""
        self._recognizer = recognizer
        self._samples = samples
        self._sample_rate = sample_rate
        self._interim = interim
        self._longest = longest
        self._buffer = Buffer(capacity(recognizer, sample_rate))
        self._has_ended = False
        self._heard = 0  # samples of which there was a partial text
        self._news = asyncio.Event()  # there is audio, or its end
        self._room = asyncio.Event()
        self._partial: asyncio.Task[Text | None] | None = None

    @property
    def seconds(self) -> float:
        """The audio that was taken."""
        return self._buffer.end / self._sample_rate

    async def feed(self, data: bytes) -> None:
        """Take `data`; waits until there is room. Raises AudioNotFiniteError or StreamTooLongError."""
        for block in self._samples.feed(data):
            await self._put(block)

    async def end(self) -> None:
        """Take note that no more comes. Raises the AudioError of an end within a sample, or of too little audio."""
        await self._put(self._samples.end())
        shortest = self._recognizer.cut.geometry.shortest
        if not self._buffer.end:
            raise AudioEmptyError("the audio is empty: it has 0 samples")
        if self._buffer.end < shortest:
            least = shortest / self._sample_rate
            message = f"the audio is {self.seconds:.4f} s long, the shortest that the model takes is {least:.4f} s"
            raise AudioTooShortError(message)
        self._has_ended = True
        self._tell()

    async def texts(self) -> AsyncGenerator[Partial | Final, None]:
        """Yield texts as they are known, until the last. A final text goes before a partial one, of which none waits.

        Raises what becomes of a window in the engine.
        """
        cut = self._recognizer.cut
        while True:
            self._news.clear()
            if self._is_window_ready:
                span = cut.next(self._buffer)
                is_last = self._has_ended and span.keep_end == self._buffer.end
                clip = self._buffer.copy(span.start, span.end)
                self._buffer.forget(cut.start)
                self._room.set()
                yield Final(await self._recognizer.final(clip, span, is_last))
                self._heard = max(self._heard, span.end)
            elif self._has_ended:
                return
            elif self._is_partial_due:
                found = await self._find_partial()
                if found is not None:
                    yield Partial(found)
            else:
                await self._news.wait()

    async def _find_partial(self) -> Text | None:
        """Return what follows the final texts; None where it cannot be had soon, or the window is complete before."""
        cut, end = self._recognizer.cut, self._buffer.end
        self._heard = end
        clip, span = self._buffer.copy(cut.start, end), Span(cut.start, end, cut.keep_start, end)
        self._partial = asyncio.create_task(self._recognizer.partial(clip, span, self._interim))
        try:
            await asyncio.wait({self._partial})
        finally:
            self._partial.cancel()
        return None if self._partial.cancelled() else self._partial.result()

    def _tell(self) -> None:
        """Wake who gives texts; a final one is not kept waiting for a partial one."""
        self._news.set()
        if self._partial is not None and self._is_window_ready:
            self._partial.cancel()

    @property
    def _is_window_ready(self) -> bool:
        return self._recognizer.cut.is_ready(self._buffer, self._has_ended)

    @property
    def _is_partial_due(self) -> bool:
        cut, end = self._recognizer.cut, self._buffer.end
        is_long_enough = end - cut.start >= cut.geometry.shortest and end > cut.keep_start
        is_new = self._interim > 0 and end - self._heard >= self._interim * self._sample_rate
        return is_new and is_long_enough

    async def _put(self, block: Clip) -> None:
        if (self._buffer.end + block.shape[0]) > self._longest * self._sample_rate:
            raise StreamTooLongError(f"the audio is longer than {self._longest:g} s, the longest stream that is taken")
        while self._buffer.room < block.shape[0]:
            self._room.clear()
            await self._room.wait()
        self._buffer.append(block)
        self._tell()


def capacity(recognizer: Recognizer, sample_rate: int) -> int:
    """Return the samples that a stream holds: of a window and what must follow it, and what waits behind."""
    geometry = recognizer.cut.geometry
    return geometry.window + geometry.shortest + round(WAITING_SECONDS * sample_rate)
