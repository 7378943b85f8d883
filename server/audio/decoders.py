"""Where files are decoded: the seam, and the threads that are the default."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from engines.batch import Clip
from server.audio.clips import ClipHold
from server.audio.decode import AudioFile, Bounds, decode, unreadable
from server.errors import AudioTimeoutError

logger = logging.getLogger(__name__)

# A second more for each of so many seconds of audio. In a second, one core decodes and resamples 100 s (Opus), 270 s
# (Vorbis), 300 s (MP3, FLAC) or 550 s (WAV) of stereo at 48 kHz, and 2,000 to 6,000 s of mono at 16 kHz but 230 s of
# Opus: this is for a host with five times as much to do as it has cores. 4 hours may take 12 minutes.
AUDIO_PER_SECOND = 20
# The time for one file is looked at after each block, and a block takes milliseconds: a thread that is not back by then
# hangs in libsndfile, and cannot be ended.
GRACE_SECONDS = 30.0
# It is looked at so often in this time: while the process stands still, nothing is looked at.
LOOKS = 20


@dataclass(frozen=True)
class Source:
    """One file: the field of the request that holds it, and what opens it.

    It is opened in the thread that decodes it, such as by `lambda: path.open("rb")` or `lambda: io.BytesIO(data)`;
    that may raise a RequestError or OSError.
    """

    param: str | None
    open: Callable[[], AudioFile]
    spooled: int = 0  # bytes that it has in the spool

    def opened(self) -> AudioFile:
        """Open it. Raises StorageError, and what `open` raises beside OSError."""
        try:
            return self.open()
        except OSError as error:
            raise unreadable(error) from error


class Decoders(Protocol):
    """What turns sources into clips, off the event loop."""

    async def decode(self, source: Source, bounds: Bounds, hold: ClipHold) -> Clip:
        """Return the clip of `source`; its bytes are taken from `hold`, where they stay if decoding fails.

        A long one is read only, and mapped from a file: see server.spool.forget.

        Raises the RequestError of reading or decoding it, what Hold.take does, StorageError, StorageFullError or
        DecoderUnavailableError. Cancelling frees what decodes it by the next block after `hold` is released, or when
        the time for one file is over.
        """
        ...

    async def close(self) -> None:
        """End all that belongs to it; what is decoded then is given up."""
        ...


class TimeLimit:
    """The time that one file may be decoded for, from now on: it grows with the audio that comes of it."""

    def __init__(self, seconds: float, sample_rate: int) -> None:
        self._seconds = seconds
        self._end = time.monotonic() + seconds
        self._seconds_per_sample = 1 / (sample_rate * AUDIO_PER_SECOND)

    @property
    def left(self) -> float:
        """Seconds."""
        return self._end - time.monotonic()

    def add(self, samples: int) -> None:
        """Note that there are `samples` more."""
        self._end += samples * self._seconds_per_sample

    def error(self) -> AudioTimeoutError:
        """Return the error of a file that is not done in time."""
        allowed = f"{self._seconds:g} s and 1 s for each {AUDIO_PER_SECOND} s of it"
        return AudioTimeoutError(f"decoding the audio takes longer than {allowed}")


class ThreadDecoders:
    """Decodes in the threads of this process: the fastest, but a file that crashes libsndfile ends the server."""

    def __init__(self, threads: Executor, seconds: float, on_hung: Callable[[str, float], None] | None = None) -> None:
        """`threads` are not closed with it; one file may take `seconds` and what its length adds: see TimeLimit.

        `on_hung` is told once, when a thread does not come back from a block.
        """
        self._threads = threads
        self._seconds = seconds
        self._on_hung = on_hung or (lambda name, seconds: None)
        self._looks: dict[object, list[int]] = {}  # at each file that is being decoded, since its last block
        self._watcher: asyncio.Task[None] | None = None

    async def decode(self, source: Source, bounds: Bounds, hold: ClipHold) -> Clip:
        """See Decoders."""
        if self._watcher is None:
            self._watcher = asyncio.create_task(self._watch())
        work = partial(self._noted, source, bounds, hold)
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _noted(self, source: Source, bounds: Bounds, hold: ClipHold) -> Clip:
        file, looks = object(), [0]
        self._looks[file] = looks
        try:
            return self._read_and_decode(source, bounds, hold, looks)
        finally:
            del self._looks[file]

    def _read_and_decode(self, source: Source, bounds: Bounds, hold: ClipHold, looks: list[int]) -> Clip:
        hold.check()  # the request may have ended meanwhile
        clip = hold.new()
        with source.opened() as file, closing(decode(file, bounds)) as blocks:
            limit = TimeLimit(self._seconds, bounds.sample_rate)
            for block in blocks:
                looks[0] = 0
                if limit.left < 0:
                    raise limit.error()
                limit.add(len(block))
                clip.write(block)
        return clip.clip()

    async def _watch(self) -> None:
        """Watch all threads: the request, and what it awaits, may have ended meanwhile."""
        seconds = self._seconds + GRACE_SECONDS
        while True:
            await asyncio.sleep(seconds / LOOKS)
            for looks in list(self._looks.values()):
                looks[0] += 1
                if looks[0] > LOOKS:
                    message = "a block is decoded for %.0f s; with 'decoders' only a process of its own would end"
                    logger.critical(message, seconds)
                    self._on_hung("libsndfile", seconds)
                    return

    async def close(self) -> None:
        """Watch no longer; the threads have another owner."""
        if self._watcher is not None:
            self._watcher.cancel()
