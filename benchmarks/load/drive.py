"""Who asks when: closed loop, where each connection waits for its answer, and open loop, where nobody waits."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import uvloop

from benchmarks.load.client import Answer, Client, Request

T = TypeVar("T")


@dataclass(frozen=True)
class Sample:
    """One request: when it was to be sent, and when its answer was complete, in seconds of time.perf_counter."""

    start: float
    end: float
    status: int
    audio_seconds: float
    timings: dict[str, float]

    @property
    def latency(self) -> float:
        """Seconds from when it was to be sent, even if it was sent later: a stall is not left out."""
        return self.end - self.start


def run(scenario: Callable[[], Awaitable[T]]) -> T:
    """Run `scenario` in the event loop that costs least."""

    async def await_it() -> T:
        return await scenario()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(await_it())


async def closed_loop(
    port: int, asked: Iterable[Request], connections: int, seconds: float = float("inf")
) -> list[Sample]:
    """Let `connections` clients ask one request after the other, until there are no more or `seconds` are over."""
    following = iter(asked)
    end = time.perf_counter() + seconds
    client = Client(port)

    async def ask_in_turn() -> list[Sample]:
        samples = []
        while time.perf_counter() < end and (request := next(following, None)) is not None:
            samples.append(await _ask(client, request, time.perf_counter()))
        return samples

    try:
        parts = await asyncio.gather(*(ask_in_turn() for _ in range(connections)))
    finally:
        client.close()
    return sorted((sample for part in parts for sample in part), key=lambda sample: sample.start)


async def open_loop(port: int, asked: Sequence[Request], rate: float, seconds: float, seed: int) -> list[Sample]:
    """Ask at random times, `rate` times a second over `seconds`, whatever becomes of the others (a Poisson process)."""
    client = Client(port)
    begin = time.perf_counter()
    running = []
    try:
        for start, request in zip(arrivals(rate, seconds, seed), itertools.cycle(asked), strict=False):
            await asyncio.sleep(begin + start - time.perf_counter())
            running.append(asyncio.create_task(_ask(client, request, begin + start)))
        return list(await asyncio.gather(*running))
    finally:
        client.close()


def arrivals(rate: float, seconds: float, seed: int) -> Iterator[float]:
    """Yield the times of a Poisson process."""
    generator = np.random.default_rng(seed)
    now = float(generator.exponential(1 / rate))
    while now < seconds:
        yield now
        now += float(generator.exponential(1 / rate))


async def _ask(client: Client, request: Request, start: float) -> Sample:
    answer: Answer = await client.ask(request)
    return Sample(start, time.perf_counter(), answer.status, request.seconds, answer.timings)
