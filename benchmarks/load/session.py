"""A measurement of one server while it lasts: what is asked, what came of it, and when it is enough."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from benchmarks.load import counters
from benchmarks.load.adapters.base import Adapter, Result, difference
from benchmarks.load.client import Answer, Request
from benchmarks.load.counters import Counts
from benchmarks.load.drive import OK, Ask, Driver, Sample
from benchmarks.load.meter import Spent
from benchmarks.load.stability import LAST, Rule, Window
from benchmarks.records.load import Latencies
from benchmarks.records.serving import Figures

Tick = Callable[[int, float], None]  # windows done, share of the most that there can be


@dataclass(frozen=True)
class Look:
    """What the server has used and counted so far."""

    spent: Spent
    counts: Counts


@dataclass(frozen=True)
class Measured:
    """What came of one load; the results are by the index of their request, of the first `Rule.checked`."""

    figures: Figures
    alone: Mapping[int, Result]
    results: Mapping[int, Result]  # the last ones under load


@dataclass(frozen=True)
class _Mark:
    """The end of a window."""

    at: float
    look: Look


@dataclass(frozen=True)
class _Span:
    """The windows that count."""

    begin: _Mark
    end: _Mark
    windows: int  # that were measured to find them
    stable: bool

    @property
    def seconds(self) -> float:
        return self.end.at - self.begin.at


class Session:
    """Asks `asked` again and again, by `ask`, and looks at the server by `look` where windows end."""

    def __init__(
        self,
        adapter: Adapter,
        asked: Sequence[Request],
        ask: Ask,
        look: Callable[[], Awaitable[Look]],
        rule: Rule,
        objective: float,
        tick: Tick = lambda windows, share: None,
        now: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._adapter, self._asked, self._ask, self._look = adapter, asked, ask, look
        self._rule, self._objective, self._tick, self._now = rule, objective, tick, now
        self._driver = Driver(ask, self._is_good, now)
        self._index: dict[int, int] = {}  # of the requests whose results alone are known, by their identity
        self._alone: dict[int, Result] = {}
        self._results: dict[int, Result] = {}
        self._checked, self._error = 0, 0.0

    async def begin(self, alone: Mapping[int, Result] | None = None) -> None:
        """Ask the first requests one after the other, unless their results are known; ValueError where one has none."""
        if alone is None:
            first = self._asked[: self._rule.checked]
            alone = {index: await self._ask_alone(request) for index, request in enumerate(first)}
        self._alone = dict(alone)
        self._index = {id(self._asked[index]): index for index in alone}

    async def _ask_alone(self, request: Request) -> Result:
        answer = await self._ask(request)
        if answer.status != OK:
            raise ValueError(f"a request that was alone had the status {answer.status}: {answer.body[:200]!r}")
        return self._adapter.result(answer)

    async def closed(self, clients: int) -> Measured:
        """Let `clients` wait for their answers; what ends in the windows counts."""
        is_asking = True
        async with asyncio.TaskGroup() as group:
            endless = itertools.takewhile(lambda _: is_asking, itertools.cycle(self._asked))
            group.create_task(self._driver.in_turn(endless, clients))
            span = await self._windows(self._now(), self._enough)
            is_asking = False  # and what is asked is waited for
        begin, end = span.begin.at, span.end.at
        # Who still waits at the end and is then told no must not be left out.
        counted = [
            sample
            for sample in self._driver.samples
            if begin <= sample.end < end or (sample.start < end <= sample.end and not sample.good)
        ]
        return self._measured(counted, span)

    async def open_(self, rate: float, seed: int) -> Measured:
        """Ask at random times, the same in each window: what differs between windows is not what was asked.

        A Poisson process of which the count is known is so many independent uniform times. What was to be sent in the
        windows counts, and is waited for; the load goes on until then.
        """
        count = max(1, round(rate * self._rule.seconds(rate)))
        seconds = count / rate
        within = np.sort(np.random.default_rng(seed).uniform(0.0, seconds, count)).tolist()
        first = self._now()
        times = (first + index * seconds + time for index in itertools.count() for time in within)
        following = (self._asked[index % len(self._asked)] for _ in itertools.count() for index in range(count))

        async def sleep(begin: float) -> float:
            await asyncio.sleep(begin + seconds - self._now())
            return begin + seconds

        async with asyncio.TaskGroup() as group:
            load = group.create_task(self._driver.at(times, following))
            span = await self._windows(first, sleep)
            begin, end = span.begin.at, span.end.at
            await self._until(lambda: self._driver.settled >= end, end + self._rule.timeout + seconds)
            load.cancel()
        return self._measured([sample for sample in self._driver.samples if begin <= sample.start < end], span)

    async def _windows(self, first: float, wait: Callable[[float], Awaitable[float]]) -> _Span:
        """Return the last windows, once they agree or there are too many; `wait` returns the end of one."""
        marks, windows = [_Mark(first, await self._look())], list[Window]()
        for index in range(self._rule.windows + 1):
            end = await wait(marks[-1].at)
            marks.append(_Mark(end, await self._look()))
            if index:  # the first one is for warming up
                windows.append(Window.of(self._driver.samples, marks[-2].at, end))
            self._tick(index + 1, (index + 1) / (self._rule.windows + 1))
            if self._rule.is_met(windows):
                break
        return _Span(marks[-1 - LAST], marks[-1], len(windows), self._rule.is_met(windows))

    async def _enough(self, begin: float) -> float:
        """Wait until a window is over, in which so many answers came as it needs."""
        wanted = len(self._driver.samples) + self._rule.requests
        await asyncio.sleep(begin + self._rule.window - self._now())
        await self._until(lambda: len(self._driver.samples) >= wanted, begin + self._rule.most)
        return self._now()

    async def _until(self, is_enough: Callable[[], bool], deadline: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(deadline - self._now()):
                await self._driver.until(is_enough)

    def _is_good(self, request: Request, answer: Answer) -> bool:
        try:
            result = self._adapter.result(answer)
        except ValueError:
            return False
        index = self._index.get(id(request))
        if index is not None:
            self._results[index] = result
            self._checked += 1
            self._error = max(self._error, difference(result, self._alone[index]))
        return True

    def _measured(self, samples: Sequence[Sample], span: _Span) -> Measured:
        seconds, good = span.seconds, [sample for sample in samples if sample.good]
        in_time = [sample for sample in good if sample.latency <= self._objective]
        before, after = span.begin.look, span.end.look
        figures = Figures(
            stable=span.stable,
            windows=span.windows,
            seconds=seconds,
            requests=len(samples),
            offered=len(samples) / seconds,
            offered_audio=_audio(samples) / seconds,
            statuses=dict(sorted(Counter(sample.status for sample in samples).items())),
            wrong=sum(sample.status == OK and not sample.good for sample in samples),
            objective=self._objective,
            goodput=_audio(in_time) / seconds,
            goodput_requests=len(in_time) / seconds,
            throughput=_audio(good) / seconds,
            within=len(in_time) / len(samples) if samples else 0.0,
            latency=Latencies.of([sample.latency for sample in good]),
            load=(after.spent - before.spent).load,
            batching=counters.batching(counters.grown(before.counts, after.counts)),
            checked=self._checked,
            error=self._error,
        )
        return Measured(figures, self._alone, self._results)


def _audio(samples: Iterable[Sample]) -> float:
    return sum(sample.audio_seconds for sample in samples)
