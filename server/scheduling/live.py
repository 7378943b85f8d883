"""The clips that a decoder writes about just now."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from engines.batch import Clip
from server.errors import ApiError, EngineFailedError
from server.scheduling.jobs import GenerationJob, Written


class GeneratingEngine(Protocol):
    """What is asked of engines.engine.Engine; its state has `keep`, which forgets all clips but those it names."""

    def start(self, clips: Sequence[Clip], beams: int) -> Any:
        """Compute what the decoder reads of `clips`, and return the state."""
        ...

    def step(self, state: Any, tokens: NDArray[np.int64], parents: NDArray[np.int64]) -> NDArray[np.float32]:
        """Advance every beam of every clip by its token: logits [clips, beams, vocabulary]."""
        ...


class LiveBatch:
    """Clips that were started together. Each leaves when its text has ended, or nobody waits for it.

    It is made and advanced in the engine's thread.
    """

    def __init__(self, engine: GeneratingEngine, jobs: Sequence[GenerationJob]) -> None:
        """Start `jobs`, which have equally many beams; raises what the engine does."""
        self.jobs = list(jobs)
        self.written = 0.0  # work of the clips about which a text was written
        self.is_sole = len(jobs) == 1  # from the start
        self._engine = engine
        self._started = time.perf_counter()
        self._state = engine.start([job.clip for job in jobs], jobs[0].plan.beams)
        self._searchers = [job.plan.begin() for job in jobs]
        self._clips = len(jobs)  # in the state
        self._places = list(range(self._clips))  # of the jobs' clips there
        self.engine_seconds = time.perf_counter() - self._started

    @property
    def padded_samples(self) -> int:
        """Longest x count of the clips that are left."""
        return max((job.samples for job in self.jobs), default=0) * len(self.jobs)

    @property
    def beams(self) -> int:
        """The beams of all clips that are left."""
        return sum(job.plan.beams for job in self.jobs)

    def step(self, left: Collection[GenerationJob] = ()) -> dict[GenerationJob, Written | ApiError]:
        """Forget the clips of those that `left`, advance the others, and return what has come of those that end.

        Raises what the engine does; then nothing has come of any of them.
        """
        started = time.perf_counter()
        self._drop(left)
        if not self.jobs:
            return {}
        self._shrink()
        tokens = np.stack([searcher.tokens for searcher in self._searchers])
        parents = np.stack([searcher.parents for searcher in self._searchers])
        logits = self._engine.step(self._state, tokens, parents)
        outcomes: dict[GenerationJob, Written | ApiError] = {}
        for job, searcher, own in zip(self.jobs, self._searchers, logits, strict=True):
            if not np.isfinite(own).all():
                outcomes[job] = EngineFailedError("the engine's logits for this clip are not finite")
            elif searcher.advance(own):
                now = time.perf_counter()
                outcomes[job] = Written(self._started - job.submitted, now - self._started, searcher.hypotheses)
                self.written += job.work
        self._drop(outcomes)
        self.engine_seconds += time.perf_counter() - started
        return outcomes

    def _drop(self, dropped: Collection[GenerationJob]) -> None:
        kept = [index for index, job in enumerate(self.jobs) if job not in dropped]
        self.jobs = [self.jobs[index] for index in kept]
        self._searchers = [self._searchers[index] for index in kept]
        self._places = [self._places[index] for index in kept]

    def _shrink(self) -> None:
        """Have the state forget the clips that have left; that takes memory, so not before their texts are out."""
        if self._places != list(range(self._clips)):
            self._state.keep(self._places)
            self._clips = len(self.jobs)
            self._places = list(range(self._clips))


class Live:
    """All live batches of one engine, advanced in turn, with the room that is left beside them.

    Batches of other kinds run between their steps, and get half of the engine's time if that is not enough for all:
    after each, the live ones go on for as long as it has held them up.
    """

    def __init__(self) -> None:
        self._batches: deque[LiveBatch] = deque()  # those that rest, the next to be advanced first
        self._advancing: set[LiveBatch] = set()
        self._owed_seconds = 0.0

    def __len__(self) -> int:
        return len(self._all)

    @property
    def _all(self) -> list[LiveBatch]:
        return [*self._batches, *self._advancing]

    @property
    def is_owed(self) -> bool:
        """Whether the live batches go on before any other runs."""
        return bool(self._batches) and self._owed_seconds > 0

    @property
    def jobs(self) -> list[GenerationJob]:
        """All clips."""
        return [job for batch in self._all for job in batch.jobs]

    def room(self, max_samples: float) -> float:
        """Return the padded samples that may be started, of `max_samples` in all."""
        return max_samples - sum(batch.padded_samples for batch in self._all)

    def clips(self, beams: int, max_beams: int) -> int:
        """Return how many clips of so many beams may be started, of `max_beams` in all; one, if nothing else is."""
        free = (max_beams - sum(batch.beams for batch in self._all)) // beams
        return max(free, 0 if self else 1)

    def add(self, batch: LiveBatch) -> None:
        """Take in a batch that has been started, or that rests again."""
        self._advancing.discard(batch)
        self._batches.append(batch)

    def next(self) -> LiveBatch | None:
        """Return the batch whose turn it is, if any rests; it does so no longer."""
        if not self._batches:
            return None
        batch = self._batches.popleft()
        self._advancing.add(batch)
        return batch

    def remove(self, batch: LiveBatch) -> None:
        """Forget a batch that has ended."""
        self._advancing.discard(batch)

    def hold_up(self, seconds: float) -> None:
        """Say how long something else ran."""
        self._owed_seconds = seconds

    def advanced(self, seconds: float) -> None:
        """Say how long a step took."""
        self._owed_seconds -= seconds
