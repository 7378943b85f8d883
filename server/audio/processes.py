"""Processes that decode: a file that crashes one of them, or keeps it too long, fails alone. Linux only."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from queue import SimpleQueue

from engines.batch import Clip
from server.audio.clips import ClipHold
from server.audio.decode import Bounds
from server.audio.decoders import Source
from server.audio.parent import Decoder


class ProcessDecoders:
    """A fixed number of processes, and as many threads that each talk to one of them."""

    def __init__(self, processes: int, seconds: float) -> None:
        """Start `processes`; one file may take `seconds`, see TimeLimit.

        Raises ValueError where the system has no such processes.
        """
        if not hasattr(os, "memfd_create"):
            raise ValueError("processes that decode need Linux: set 'decoders' to 0")
        self._threads = ThreadPoolExecutor(processes, thread_name_prefix="decoder")
        self._decoders = [Decoder(seconds) for _ in range(processes)]
        self._idle: SimpleQueue[Decoder] = SimpleQueue()
        for decoder in self._decoders:
            self._idle.put(decoder)

    async def decode(self, source: Source, bounds: Bounds, hold: ClipHold) -> Clip:
        """See Decoders."""
        work = partial(self._read_and_decode, source, bounds, hold)
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def close(self) -> None:
        """End the processes, and with them what they decode."""
        for decoder in self._decoders:
            decoder.end()
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)
        for decoder in self._decoders:
            decoder.clean_up()

    def _read_and_decode(self, source: Source, bounds: Bounds, hold: ClipHold) -> Clip:
        hold.check()  # the request may have ended meanwhile
        with source.opened() as file:
            decoder = self._idle.get()  # there is one, since there are no more threads than processes
            try:
                return decoder.decode(file, bounds, hold)
            finally:
                self._idle.put(decoder)
