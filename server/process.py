"""The process: signals, what it still owes an answer, the time that it has to end, and its exit status."""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import os
import resource
import socket
import sys
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from types import FrameType
from typing import NoReturn

import uvicorn

logger = logging.getLogger(__name__)

# The status after an engine's call did not come back: EX_SOFTWARE of sysexits.h. A supervisor starts another process.
HUNG_STATUS = 70
# What waits for a hung engine has its answer already: these are for the requests of the others.
HUNG_SECONDS = 3.0
# The share of the time to end that each of the last steps has, and the most that it needs: cutting off what is left,
# sending those answers, closing the application.
LAST_SHARE, LAST_SECONDS = 1 / 8, 1.0
POLL_SECONDS = 0.05
# What it asks for at most, of what the system lets it have: some for each connection, and no more for each request.
MAX_DESCRIPTORS = 65_536
# Seconds after which a thread of Python gives way to another, 5 ms by default: the engine's may wait for so long after
# each batch, which takes a small engine 50 ms.
SWITCH_SECONDS = 0.0005


def allow_descriptors() -> None:
    """Let the process have many files, as far as the system does: connections, uploads and long clips are such.

    Where nobody asks, a process has 1024, for the sake of programs that cannot do with larger numbers.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MAX_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def switch_often() -> None:
    """Let no thread of Python keep that of an engine waiting."""
    sys.setswitchinterval(SWITCH_SECONDS)


def keep_what_is_there() -> None:
    """Let the garbage collector look only at what comes from now on, and not at what was imported, again and again."""
    gc.collect()
    gc.freeze()
    gc.enable()


class Lifecycle:
    """Whether the process is about to end, and the requests that it finishes before."""

    def __init__(self) -> None:
        self.is_ending = False
        self.is_over = False  # what is not answered by now will not be
        self.admitted: set[asyncio.Task[object]] = set()
        # Told the model whose engine does not come back from a call, and the seconds; the process sets it.
        self.on_hung: Callable[[str, float], None] = lambda name, seconds: None

    def end(self) -> None:
        """Admit no more requests. Safe to call from a signal's handler."""
        self.is_ending = True

    def cut_off(self) -> None:
        """Have the requests that are left answered 503."""
        self.is_over = True
        for task in self.admitted:
            task.cancel()


class Process(uvicorn.Server):
    """Serves until a signal, then finishes what was admitted and ends the process with status 0.

    It listens while it drains: who asks is told that it is not ready, and what is new is refused with 503. It ends in
    time whatever hangs, and at once at a second signal, with the conventional status 128 + its number.
    """

    def __init__(self, config: uvicorn.Config, lifecycle: Lifecycle, shutdown_seconds: float) -> None:
        super().__init__(config)
        self._lifecycle = lifecycle
        self._shutdown_seconds = shutdown_seconds
        self._status = 0
        self._ends_at = math.inf
        self._last_seconds = 0.0
        lifecycle.on_hung = self.fail
        # A thread from the start, and a queue whose `put` is reentrant: a signal's handler may interrupt anything.
        self._ending: SimpleQueue[None] = SimpleQueue()
        threading.Thread(target=self._end_in_time, name="end-in-time", daemon=True).start()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end; at once if that has begun. Not by the default action, which process 1 does not have."""
        if self._lifecycle.is_ending:
            os._exit(128 + sig)
        self._end(0, self._shutdown_seconds)

    def fail(self, name: str, seconds: float) -> None:
        """End soon with HUNG_STATUS, since a call of `name` has not come back for `seconds`."""
        logger.critical("%s hangs, for %.0f s: the process ends with status %d", name, seconds, HUNG_STATUS)
        self._end(HUNG_STATUS, HUNG_SECONDS)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Wait for the answers that are owed, then end the process."""
        if self._lifecycle.admitted:
            logger.info("shutting down: finishing %d requests", len(self._lifecycle.admitted))
        await self._answered(steps_left=3)
        if self._lifecycle.admitted:
            logger.warning("%d requests are cut off: the time to finish them is over", len(self._lifecycle.admitted))
            self._lifecycle.cut_off()
            await self._answered(steps_left=2)
        # uvicorn waits for answers that clients have not read to the end, and declares this an int.
        left = self._left(steps_left=1)
        self.config.timeout_graceful_shutdown = left  # type: ignore[assignment]
        await super().shutdown(sockets)
        leave(self._status)

    def _end(self, status: int, seconds: float) -> None:
        self._status = status
        self._ends_at = min(self._ends_at, time.monotonic() + seconds)
        self._last_seconds = min(LAST_SECONDS, LAST_SHARE * seconds)
        self._lifecycle.end()
        self.should_exit = True
        self._ending.put(None)

    def _left(self, steps_left: int) -> float:
        """Return the seconds before the last steps."""
        return max(0.0, self._ends_at - time.monotonic() - steps_left * self._last_seconds)

    async def _answered(self, steps_left: int) -> None:
        while self._lifecycle.admitted and self._left(steps_left):  # noqa: ASYNC110  # the end may come nearer
            await asyncio.sleep(POLL_SECONDS)

    def _end_in_time(self) -> None:
        """End the process when its time is over, even if its loop stands still."""
        self._ending.get()
        while (left := self._ends_at - time.monotonic()) > 0:
            time.sleep(min(left, POLL_SECONDS))
        os._exit(self._status)


def leave(status: int) -> NoReturn:
    """End the process without waiting for its threads: one that loads an engine or hangs in it cannot be stopped."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
