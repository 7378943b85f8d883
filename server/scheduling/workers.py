"""The threads that call one engine, and the watchdog over their calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

# A call hangs if it takes that many times longer than its clips are expected to take.
PATIENCE = 20.0


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

    async def call(
        self, function: Callable[[], T], limit_seconds: float, expected_seconds: float, hang: Callable[[float], None]
    ) -> T:
        """Return what `function` returns; `hang` is told when it takes too long."""
        limit = max(limit_seconds, PATIENCE * expected_seconds)
        loop = asyncio.get_running_loop()
        alarm = loop.call_later(limit, hang, limit)
        try:
            return await loop.run_in_executor(self._threads, function)
        finally:
            alarm.cancel()

    def _new(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._count, thread_name_prefix=f"engine-{self._name}")
