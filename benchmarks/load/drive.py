"""Who asks when: closed loop, where each client waits for its answer, and open loop, where nobody waits."""

from __future__ import annotations

import asyncio
import itertools
import math
import resource
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import uvloop

from benchmarks.load.client import BROKEN, TIMED_OUT, Answer, Client, Request

T = TypeVar("T")
Ask = Callable[[Request], Awaitable[Answer]]
Check = Callable[[Request, Answer], bool]
OK = 200
# A client that is refused, or does not get through, waits for so long until it asks again.
HOPELESS = (BROKEN.status, TIMED_OUT.status, 429, 503)
PAUSE_SECONDS = 0.1


@dataclass(frozen=True)
class Sample:
    """One request: when it was to be sent, and when its answer was complete, in seconds of time.perf_counter."""

    start: float
    end: float
    status: int
    audio_seconds: float
    timings: dict[str, float]
    good: bool  # status 200, and an answer that is one

    @property
    def latency(self) -> float:
        """Seconds from when it was to be sent, even if it was sent later: a stall is not left out."""
        return self.end - self.start


class Driver:
    """Asks one server, in one of the two ways, and keeps a sample of each answer in the order of their ends.

    `check` tells of an answer with status 200 whether it is good; what it takes does not count as latency.
    """

    def __init__(self, ask: Ask, check: Check = lambda *_: True, now: Callable[[], float] = time.perf_counter) -> None:
        self.now = now
        self.samples: list[Sample] = []
        self._ask, self._check = ask, check
        self._ended = asyncio.Event()
        self._starts: dict[object, float] = {}  # of what waits for its answer, in their order
        self._newest = -math.inf

    @property
    def settled(self) -> float:
        """The time up to which everything that was to be sent has its sample."""
        return next(iter(self._starts.values()), self._newest)

    async def in_turn(self, asked: Iterable[Request], clients: int) -> None:
        """Let each of `clients` ask one request after the other, until there are no more."""
        following = iter(asked)

        async def ask_in_turn() -> None:
            for request in following:
                sample = await self._one(request, self.now())
                if sample.status in HOPELESS:
                    await asyncio.sleep(PAUSE_SECONDS)

        await asyncio.gather(*(ask_in_turn() for _ in range(clients)))

    async def at(self, times: Iterable[float], asked: Iterable[Request]) -> None:
        """Ask a request at each of `times`, of the clock, whatever becomes of the others; wait for all in the end."""
        async with asyncio.TaskGroup() as running:
            for start, request in zip(times, asked, strict=False):
                await asyncio.sleep(start - self.now())
                running.create_task(self._one(request, start))

    async def until(self, is_enough: Callable[[], bool]) -> None:
        """Wait until there are as many samples as that, or such."""
        while not is_enough():
            self._ended.clear()
            await self._ended.wait()

    async def _one(self, request: Request, start: float) -> Sample:
        one = object()
        self._starts[one] = self._newest = start
        try:
            answer = await self._ask(request)
        finally:
            del self._starts[one]
        end = self.now()
        good = answer.status == OK and self._check(request, answer)
        sample = Sample(start, end, answer.status, request.seconds, answer.timings, good)
        self.samples.append(sample)
        self._ended.set()
        return sample


def run(scenario: Callable[[], Awaitable[T]]) -> T:
    """Run `scenario` in the event loop that costs least, with as many connections as this process may have."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))

    async def await_it() -> T:
        return await scenario()

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(await_it())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)  # what is started afterwards inherits them


async def closed_loop(
    port: int, asked: Iterable[Request], connections: int, seconds: float = float("inf")
) -> list[Sample]:
    """Let `connections` clients ask one request after the other, until there are no more or `seconds` are over."""
    client = Client(port)
    driver = Driver(client.ask)
    end = driver.now() + seconds
    try:
        await driver.in_turn(itertools.takewhile(lambda _: driver.now() < end, asked), connections)
    finally:
        client.close()
    return sorted(driver.samples, key=lambda sample: sample.start)


async def open_loop(port: int, asked: Sequence[Request], rate: float, seconds: float, seed: int) -> list[Sample]:
    """Ask at random times, `rate` times a second over `seconds`, whatever becomes of the others (a Poisson process)."""
    client = Client(port)
    driver = Driver(client.ask)
    begin = driver.now()
    try:
        await driver.at((begin + start for start in arrivals(rate, seconds, seed)), itertools.cycle(asked))
    finally:
        client.close()
    return sorted(driver.samples, key=lambda sample: sample.start)


def arrivals(rate: float, seconds: float, seed: int) -> Iterator[float]:
    """Yield the times of a Poisson process."""
    generator = np.random.default_rng(seed)
    now = float(generator.exponential(1 / rate))
    while now < seconds:
        yield now
        now += float(generator.exponential(1 / rate))
