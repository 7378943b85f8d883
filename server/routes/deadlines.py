"""Until when an answer is wanted: what a request asks for, within what the operator grants."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from server.errors import DeadlineError, OptionError


def deadline_of(timeout: float | None, default: float, ceiling: float) -> float:
    """Return when the `timeout` of a request in seconds is over, on the clock of time.perf_counter.

    Raises OptionError for more than the `ceiling`.
    """
    if timeout is not None and timeout > ceiling:
        raise OptionError(f"'timeout' is {timeout:g} s; up to {ceiling:g} s are granted", "timeout")
    return time.perf_counter() + (min(default, ceiling) if timeout is None else timeout)


@asynccontextmanager
async def in_time(deadline: float) -> AsyncIterator[None]:
    """Cancel what is done inside at the `deadline`, and raise DeadlineError."""
    seconds = deadline - time.perf_counter()
    try:
        async with asyncio.timeout(seconds) as timer:
            yield
    except TimeoutError:
        if not timer.expired():
            raise
        raise DeadlineError(f"the request was not done within {max(0.0, seconds):.3g} s", "timeout") from None
