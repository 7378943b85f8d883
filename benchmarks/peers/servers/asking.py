"""A server is asked, and each of its answers held against the truth."""

from __future__ import annotations

import itertools
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmarks.load import counters, drive
from benchmarks.load.adapters.base import Adapter, Result
from benchmarks.load.adapters.raw import Raw
from benchmarks.load.client import HOST, Answer, Client, Request
from benchmarks.load.counters import Counts
from benchmarks.load.drive import Driver
from benchmarks.load.meter import Spent
from benchmarks.peers.servers.process import Running
from benchmarks.peers.servers.truth import Truths
from engines.verify import error
from export.parity import cosine


@dataclass(frozen=True)
class Padded(Raw):
    """A server that says too how many samples a clip had, and the longest of its batch."""

    samples: list[tuple[int, int]] = field(default_factory=list, compare=False)  # of each answer so far

    def read(self, answer: Answer) -> Result:
        """Return the vector: [hidden]."""
        told = json.loads(answer.body)
        self.samples.append((told["samples"], told["longest"]))
        return np.array(told["embedding"], np.float32)

    @property
    def padded_share(self) -> float:
        """Of the samples that were computed."""
        if not self.samples:
            return 0.0
        own, longest = np.sum(self.samples, axis=0)
        return 1.0 - float(own / longest)


@dataclass(frozen=True)
class Work:
    """What is asked: clips as requests to one server, and what it is to answer to each."""

    adapter: Adapter
    requests: Sequence[Request]
    truths: Truths


@dataclass
class Found:
    """What came of it."""

    samples: list[drive.Sample]
    seconds: float
    spent: Spent
    padded_share: float | None  # None where the server does not say
    errors: list[float] = field(default_factory=list)
    cosines: list[float] = field(default_factory=list)


Loop = Callable[[Driver], Awaitable[None]]


def closed(server: Running, work: Work, clients: int, timeout: float) -> Found:
    """Let `clients` ask everything once, each one request after the other."""
    found = _asked(server, work, timeout, lambda driver: driver.in_turn(work.requests, clients))
    found.seconds = max(each.end for each in found.samples) - min(each.start for each in found.samples)
    return found


def open_(server: Running, work: Work, rate: float, seconds: float, timeout: float, seed: int) -> Found:
    """Ask `rate` times a second at random times over so many `seconds`, whatever becomes of the others."""

    def loop(driver: Driver) -> Awaitable[None]:
        begin = driver.now()
        times = (begin + time for time in drive.arrivals(rate, seconds, seed))
        return driver.at(times, itertools.cycle(work.requests))

    found = _asked(server, work, timeout, loop)
    found.seconds = seconds
    return found


def _asked(server: Running, work: Work, timeout: float, loop: Loop) -> Found:
    errors: list[float] = []
    cosines: list[float] = []
    index = {id(request): number for number, request in enumerate(work.requests)}

    def is_good(request: Request, answer: Answer) -> bool:
        try:
            result = work.adapter.result(answer)
        except ValueError:
            return False
        truth = work.truths[index[id(request)]]
        if isinstance(result, str) or result.shape != truth.shape:
            return False
        errors.append(error(result, truth))
        cosines.append(cosine(result, truth))
        return True

    async def ask() -> Found:
        client = Client(server.port, timeout=timeout)
        driver = Driver(client.ask, is_good)
        before, counted = Spent.by([server.pid]), await counters.read(server.port, HOST)
        try:
            await loop(driver)
        finally:
            client.close()
        spent = Spent.by([server.pid]) - before
        share = _padded(work.adapter, counters.grown(counted, await counters.read(server.port, HOST)))
        return Found(driver.samples, spent.wall, spent, share, errors, cosines)

    if isinstance(work.adapter, Padded):
        work.adapter.samples.clear()  # of what was asked before
    return drive.run(ask)


def _padded(adapter: Adapter, counted: Counts) -> float | None:
    """Return the padded share as the answers have told, or else as the server has counted."""
    if isinstance(adapter, Padded):
        return adapter.padded_share
    batching = counters.batching(counted)
    return None if batching is None else batching.padded_share
