"""Where files are decoded: the seam, and the threads that are the default."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from engines.batch import Clip
from server.audio.decode import Bounds, Take, decode
from server.errors import AudioTimeoutError
from server.memory import Hold

logger = logging.getLogger(__name__)

# The time for one file is looked at after each block, and a block takes milliseconds: a thread that is not back by then
# hangs in libsndfile, and cannot be ended.
GRACE_SECONDS = 30.0
# It is looked at so often in this time: while the process stands still, nothing is looked at.
LOOKS = 20


@dataclass(frozen=True)
class Source:
    """One upload: the field of the request that holds it, and what reads it; that may raise a RequestError."""

    param: str | None
    read: Callable[[], bytes]


class Decoders(Protocol):
    """What turns sources into clips, off the event loop."""

    async def decode(self, source: Source, bounds: Bounds, hold: Hold) -> Clip:
        """Return the clip of `source`; its bytes are taken from `hold`, where they stay if decoding fails.

        Raises the RequestError of reading or decoding it, what Hold.take does, or DecoderUnavailableError. Cancelling
        frees what decodes it by the next block after `hold` is released, or when the time for one file is over.
        """
        ...

    async def close(self) -> None:
        """End all that belongs to it; what is decoded then is given up."""
        ...


class ThreadDecoders:
    """Decodes in the threads of this process: the fastest, but a file that crashes libsndfile ends the server."""

    def __init__(self, threads: Executor, seconds: float, on_hung: Callable[[str, float], None] | None = None) -> None:
        """`threads` are not closed with it; one file may take `seconds`, looked at after each block.

        `on_hung` is told once, when a thread does not come back.
        """
        self._threads = threads
        self._seconds = seconds
        self._on_hung = on_hung or (lambda name, seconds: None)
        self._looks: dict[object, list[int]] = {}  # at each file that is being decoded
        self._watcher: asyncio.Task[None] | None = None

    async def decode(self, source: Source, bounds: Bounds, hold: Hold) -> Clip:
        """See Decoders."""
        if self._watcher is None:
            self._watcher = asyncio.create_task(self._watch())
        work = partial(self._noted, source, bounds, hold)
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _noted(self, source: Source, bounds: Bounds, hold: Hold) -> Clip:
        file = object()
        self._looks[file] = [0]
        try:
            return _read_and_decode(source, bounds, hold, self._seconds)
        finally:
            del self._looks[file]

    async def _watch(self) -> None:
        """Watch all threads: the request, and what it awaits, may have ended meanwhile."""
        seconds = self._seconds + GRACE_SECONDS
        while True:
            await asyncio.sleep(seconds / LOOKS)
            for looks in list(self._looks.values()):
                looks[0] += 1
                if looks[0] > LOOKS:
                    message = "a file is decoded for %.0f s; with 'decoders' only a process of its own would end"
                    logger.critical(message, seconds)
                    self._on_hung("libsndfile", seconds)
                    return

    async def close(self) -> None:
        """Watch no longer; the threads have another owner."""
        if self._watcher is not None:
            self._watcher.cancel()


def took_too_long(seconds: float) -> AudioTimeoutError:
    """Return the error of a file that is decoded for longer than `seconds`."""
    return AudioTimeoutError(f"decoding the audio takes longer than {seconds:g} s")


def _read_and_decode(source: Source, bounds: Bounds, hold: Hold, seconds: float) -> Clip:
    hold.take(0)  # the request may have ended meanwhile
    data = source.read()
    return decode(data, bounds, _within(seconds, hold))


def _within(seconds: float, hold: Hold) -> Take:
    """Return what takes from `hold`, for `seconds` from now on."""
    end = time.monotonic() + seconds

    def take(size: int) -> None:
        if time.monotonic() > end:
            raise took_too_long(seconds)
        hold.take(size)

    return take
