"""An engine whose results can be foretold."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.batch import Clip, Row
from engines.manifest import Generation, Search
from server.decoding.search import Plan
from server.scheduling.engine import Graph
from server.scheduling.jobs import AnyJob, BatchJob, Result
from server.scheduling.limits import Limits
from server.scheduling.scheduler import Scheduler

RATE = 100
PATIENCE_SECONDS = 60  # for what takes one on an idle machine
LAYERS = 4
START, WORD, EOS = 0, 1, 2
LIMITS = Limits(queue_seconds=1000, batch_seconds=10, max_padding=0.2, live_beams=8, live_seconds=10, start_seconds=10)


def clip(seconds: float, value: float = 1.0) -> Clip:
    return np.full(round(seconds * RATE), value, np.float32)


def plan(beams: int = 1, max_length: int = 1000) -> Plan:
    search = Search(max_length=max_length, num_beams=beams)
    generation = Generation(
        tokenizer="tokenizer.json",
        tokenizer_sha256="0" * 64,
        layers=1,
        heads=1,
        head_size=1,
        vocabulary_size=3,
        start_token=START,
        eos_tokens=(EOS,),
        pad_token=START,
        skipped=(START, EOS),
        clean_up_spaces=False,
        search=search,
    )
    return Plan(generation, search)


Text = tuple[int, ...]


def spell(clip: Clip, text: Text) -> list[float]:
    """Return the logits of what follows `text`, start token included: n words about a clip of the value n."""
    logits = [0.0, 0.0, 0.0]
    logits[EOS if len(text) > clip[0] else WORD] = 10 + float(clip[0])
    return logits


@dataclass
class Clock:
    """A clock that stands still but for what an engine takes, whatever the machine is doing."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class FakeState:
    """The clips, and as in an engine's cache a text for each row, with the clip that it is about."""

    clips: list[Clip]
    rows: list[int]  # the first row of each clip
    cache: list[tuple[Clip, Text]]
    steps: int = 0

    def __post_init__(self) -> None:
        self.started = len(self.clips)

    def keep(self, clips: Sequence[int]) -> None:
        self.clips = [self.clips[index] for index in clips]
        self.rows = [self.rows[index] for index in clips]


@dataclass
class FakeEngine:
    """Outputs are the clip's mean, times 2 for `b`, times 3 for `c`, which half of the layers compute.

    What it writes about a clip is up to `spell`.
    """

    calls: list[tuple[list[int], tuple[str, ...]]] = field(default_factory=list)
    fault: Callable[[Sequence[Clip]], None] = lambda clips: None
    spell: Callable[[Clip, Text], list[float]] = spell
    step_fault: Callable[[FakeState], None] = lambda state: None
    gate: threading.Event = field(default_factory=threading.Event)
    sleep: Callable[[float], None] = time.sleep
    seconds: float = 0.0
    step_seconds: float = 0.0
    rows: int = 1_000_000  # samples of all rows of a batch
    loads: list[tuple[str, ...]] = field(default_factory=list)
    load: Callable[[], None] = lambda: None
    works: bool = True  # what is found when it is checked again

    def __post_init__(self) -> None:
        self.gate.set()

    @property
    def full_graph(self) -> Graph:
        return SimpleNamespace(layers=LAYERS)

    def graph_for(self, outputs: Iterable[str]) -> Graph:
        return SimpleNamespace(layers=LAYERS // 2 if set(outputs) <= {"c"} else LAYERS)

    def max_rows(self, samples: int) -> int:
        return self.rows // samples

    def needs_load(self, outputs: Iterable[str]) -> bool:
        return set(outputs) <= {"c"} and not self.loads

    def load_for(self, outputs: Iterable[str]) -> None:
        self.loads.append(tuple(outputs))
        self.load()

    def recheck(self) -> bool:
        return self.works

    def run(self, clips: Sequence[Clip], outputs: Sequence[str]) -> list[Row]:
        self._call(clips, tuple(outputs))
        factors = {"a": 1, "b": 2, "c": 3}
        return [{name: np.array([clip.mean() * factors[name]]) for name in outputs} for clip in clips]

    def start(self, clips: Sequence[Clip], beams: int) -> FakeState:
        self._call(clips, ("start",))
        rows: list[tuple[Clip, Text]] = [(clip, ()) for clip in clips for _ in range(beams)]
        return FakeState(list(clips), [index * beams for index in range(len(clips))], rows)

    def step(self, state: FakeState, tokens: NDArray[np.int64], parents: NDArray[np.int64]) -> NDArray[np.float32]:
        self.calls.append(([len(clip) for clip in state.clips], ("step",)))
        self.sleep(self.step_seconds)
        self.step_fault(state)
        cache: list[tuple[Clip, Text]] = []
        for clip, first, its_tokens, its_parents in zip(state.clips, state.rows, tokens, parents, strict=True):
            for token, parent in zip(its_tokens.tolist(), its_parents.tolist(), strict=True):
                about, text = state.cache[first + parent]
                assert about is clip
                cache.append((clip, (*text, token)))
        state.cache, state.rows = cache, [index * tokens.shape[1] for index in range(len(state.clips))]
        state.steps += 1
        return np.array([self.spell(*row) for row in cache], np.float32).reshape(*tokens.shape, 3)

    def _call(self, clips: Sequence[Clip], outputs: tuple[str, ...]) -> None:
        self.calls.append(([len(clip) for clip in clips], outputs))
        assert self.gate.wait(PATIENCE_SECONDS)
        self.sleep(self.seconds)
        self.fault(clips)

    @property
    def lengths(self) -> list[list[int]]:
        return [lengths for lengths, _ in self.calls]

    @property
    def order(self) -> list[str]:
        """What was called, in one letter each: s for a start, a dot for a step, the output for a batch."""
        letters: dict[tuple[str, ...], str] = {("start",): "s", ("step",): "."}
        return [letters.get(outputs, outputs[0]) for _, outputs in self.calls]


def scheduled(
    engine: FakeEngine, test: Callable[[Scheduler], Coroutine[Any, Any, None]], limits: Limits = LIMITS
) -> None:
    async def run() -> None:
        scheduler = Scheduler("fake", engine, RATE, limits)
        try:
            await asyncio.wait_for(test(scheduler), PATIENCE_SECONDS)
        finally:
            engine.gate.set()
            await scheduler.close()

    asyncio.run(run())


async def outcomes(jobs: Iterable[AnyJob]) -> list[Any]:
    return [await job.future for job in jobs]


def values(found: Iterable[Any], name: str = "a") -> list[float]:
    return [float(one.row[name][0]) for one in found if isinstance(one, Result)]


async def occupied(engine: FakeEngine, scheduler: Scheduler) -> list[BatchJob]:
    """Submit a clip that holds the engine until its gate opens."""
    engine.gate.clear()
    jobs = scheduler.submit([clip(1)], ["a"])
    while not engine.calls:  # noqa: ASYNC110  # they come from another thread
        await asyncio.sleep(0.001)
    return jobs
