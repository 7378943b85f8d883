from __future__ import annotations

import asyncio
import time

import pytest

from server.errors import DeadlineError, OptionError
from server.routes.deadlines import deadline_of, in_time


@pytest.mark.parametrize(("timeout", "default", "seconds"), [(None, 60, 60), (None, 900, 600), (600, 60, 600)])
def test_what_a_request_is_granted(timeout: float | None, default: float, seconds: float) -> None:
    before = time.perf_counter()
    deadline = deadline_of(timeout, default, 600)
    assert before + seconds <= deadline <= time.perf_counter() + seconds


def test_no_more_than_the_ceiling() -> None:
    with pytest.raises(OptionError, match="up to 600 s are granted") as caught:
        deadline_of(601, 60, 600)
    assert caught.value.param == "timeout"


def test_what_is_late_is_cancelled() -> None:
    async def late() -> None:
        async with in_time(time.perf_counter() + 0.05):
            await asyncio.sleep(60)

    with pytest.raises(DeadlineError, match=r"was not done within \d"):
        asyncio.run(late())


def test_another_timeout_inside_is_not_the_deadline() -> None:
    async def fail() -> None:
        async with in_time(time.perf_counter() + 60):
            raise TimeoutError

    with pytest.raises(TimeoutError):
        asyncio.run(fail())
