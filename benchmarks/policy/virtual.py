"""The real scheduler on a made-up engine, in time that passes only where something waits for it."""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, NoReturn, TypeVar
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from engines.batch import Clip, Row
from server.scheduling import formation
from server.scheduling import scheduler as scheduling
from server.scheduling.engine import Graph
from server.scheduling.limits import Limits
from server.scheduling.scheduler import Scheduler

T = TypeVar("T")
RATE = 100  # samples a second: the scheduler asks for the number of them only
OUTPUT = "embeddings"


class Clock(selectors.SelectSelector):
    """Time: where an event loop would sleep until its next timer, the timer's time has come."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Let `timeout` pass."""
        if timeout is None:
            raise RuntimeError("everything waits, and nothing will ever happen")
        self.now += max(0.0, timeout)
        return super().select(0)


class Loop(asyncio.SelectorEventLoop):
    """An event loop in the time of a Clock."""

    def __init__(self) -> None:
        self.clock = Clock()
        super().__init__(self.clock)

    def time(self) -> float:
        """Return the time of the clock."""
        return self.clock.now


@dataclass(frozen=True)
class Ran:
    """One batch: the lengths of its clips in seconds, and their numbers in the order of submission."""

    lengths: tuple[float, ...]
    numbers: tuple[int, ...]

    @property
    def padded(self) -> float:
        """Seconds of audio with padding."""
        return max(self.lengths) * len(self.lengths)


@dataclass
class FakeEngine:
    """A batch costs `fixed` seconds and `per_second` of padded audio, as on a GPU. The first sample is a number."""

    fixed: float
    per_second: float
    started: Callable[[int], None] = lambda clips: None  # told when a batch starts
    ran: list[Ran] = field(default_factory=list)

    full_graph: Graph = field(default_factory=lambda: SimpleNamespace(layers=1))

    def graph_for(self, outputs: Iterable[str]) -> Graph:
        """Return the only graph."""
        return self.full_graph

    def max_rows(self, samples: int) -> int:
        """Return a number that limits nothing."""
        return 1_000_000

    def needs_load(self, outputs: Iterable[str]) -> bool:
        """Return that it is loaded."""
        return False

    def load_for(self, outputs: Iterable[str]) -> NoReturn:
        """Not of this engine."""
        raise NotImplementedError

    def recheck(self) -> bool:
        """Return that it works."""
        return True

    def run(self, clips: Sequence[Clip], outputs: Sequence[str]) -> list[Row]:
        """Take note of the batch."""
        self.ran.append(Ran(tuple(len(clip) / RATE for clip in clips), tuple(int(clip[0]) for clip in clips)))
        self.started(len(clips))
        return [{OUTPUT: clip[:1]} for clip in clips]

    def start(self, clips: Sequence[Clip], beams: int) -> NoReturn:
        """Not of this engine."""
        raise NotImplementedError

    def step(self, state: Any, tokens: NDArray[np.int64], parents: NDArray[np.int64]) -> NoReturn:
        """Not of this engine."""
        raise NotImplementedError

    @property
    def seconds(self) -> float:
        """What the newest batch costs."""
        return self.fixed + self.per_second * self.ran[-1].padded


@contextmanager
def scheduling_in(loop: Loop, engine: FakeEngine, form_batch: Callable[..., Any]) -> Iterator[None]:
    """Let the scheduler live in the time of `loop`, where `engine` takes what it costs, and form batches so."""

    class Workers:
        def __init__(self, name: str, count: int) -> None:
            self._thread = asyncio.Lock()

        def close(self) -> None: ...

        async def watched(self, function: Callable[[], T], *_: object) -> tuple[T, float]:
            async with self._thread:
                result = function()
                await asyncio.sleep(engine.seconds)
                return result, engine.seconds

    with (
        mock.patch.object(time, "perf_counter", loop.time),
        mock.patch.object(scheduling, "Workers", Workers),
        mock.patch.object(formation, "form_batch", form_batch),
    ):
        yield


@dataclass
class Backlog:
    """Keeps so many clips waiting, of lengths that `lengths` gives; each batch that starts is made up for."""

    engine: FakeEngine
    limits: Limits
    waiting: int
    lengths: Iterator[float]
    places: list[tuple[int, int]] = field(default_factory=list)  # of each clip: batches so far, and clips before it

    async def run(self, batches: int) -> float:
        """Let so many batches run; return the seconds that passed."""
        loop = asyncio.get_running_loop()
        scheduler = Scheduler("policy", self.engine, RATE, self.limits)
        done = asyncio.Event()

        def add(count: int, before: int) -> None:
            for place in range(before, before + count):
                samples = round(next(self.lengths) * RATE)
                clip = np.full(samples, len(self.places), np.float32)
                self.places.append((len(self.engine.ran), place))
                scheduler.submit([clip], [OUTPUT])

        def refill(clips: int) -> None:
            if len(self.engine.ran) < batches:
                loop.call_soon(add, clips, self.waiting - clips)
            else:
                done.set()

        self.engine.started = refill
        begin = loop.time()
        add(self.waiting, 0)
        await done.wait()
        seconds = loop.time() - begin
        await scheduler.close()
        return seconds


def run(loop: Loop, work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end."""
    try:
        return loop.run_until_complete(work)
    finally:
        loop.close()
