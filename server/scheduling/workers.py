"""The threads that call one engine, and the watchdog over their calls."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

T = TypeVar("T")

# A call hangs if it takes that many times longer than its clips are expected to take.
PATIENCE = 20.0
# The watchdog looks so often before it gives up: time in which the process stood still is one look, however long.
LOOKS = 20


class Workers:
    """As many calls at a time as there are threads."""

    def __init__(self, name: str, count: int) -> None:
        self._name = name
        self._count = count
        self._threads = self._new()

    def resize(self, count: int) -> None:
        """Have another number of threads; what runs goes on."""
        if count != self._count:
            self._count = count
            self.close()
            self._threads = self._new()

    def close(self) -> None:
        """End the threads once they have nothing to do."""
        self._threads.shutdown(wait=False)

    async def call(self, function: Callable[[], T]) -> T:
        """Return what `function` returns, however long it takes."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, function)

    async def watched(
        self, function: Callable[[], T], limit_seconds: float, expected_seconds: float, hang: Callable[[float], None]
    ) -> tuple[T, float]:
        """Return what `function` returns and the seconds that it took; `hang` is told when it takes too long."""
        limit = max(limit_seconds, PATIENCE * expected_seconds)
        watchdog = _Watchdog(limit, hang)
        try:
            return await self.call(partial(_timed, function))
        finally:
            watchdog.cancel()

    def _new(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._count, thread_name_prefix=f"engine-{self._name}")


def _timed(function: Callable[[], T]) -> tuple[T, float]:
    started = time.perf_counter()
    result = function()
    return result, time.perf_counter() - started


class _Watchdog:
    """A timer and no task: every batch has one, and waits for what it costs."""

    def __init__(self, limit_seconds: float, hang: Callable[[float], None]) -> None:
        self._limit_seconds = limit_seconds
        self._hang = hang
        self._looks = 0
        self._wait()

    def cancel(self) -> None:
        """Look no more."""
        self._timer.cancel()

    def _wait(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._limit_seconds / LOOKS, self._look)

    def _look(self) -> None:
        self._looks += 1
        if self._looks < LOOKS:
            self._wait()
        else:
            self._hang(self._limit_seconds)
