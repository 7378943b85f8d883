"""An engine under measurement."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np

from engines.batch import Clip
from engines.engine import Engine
from engines.memory import RowMemory
from engines.runtimes import RuntimeOptions, cuda
from server.calibration.peak import peak_bytes

# Tokens that are written about a clip where threads are chosen: those of a few words, so that start and steps count.
STEPS = 12


class Subject(Protocol):
    """What is asked of an engine."""

    device: str
    shortest: float  # clip that it takes, in seconds
    longest: float
    weights: int  # bytes of its files

    def batch(self, length: float, count: int) -> None:
        """Run `count` clips of `length` seconds as one batch; with a decoder, as far as the first token."""
        ...

    def clips(self, length: float, count: int, workers: int) -> None:
        """Run `count` clips, each alone and to its end, in as many threads as there are workers."""
        ...

    def max_rows(self, length: float) -> int:
        """Return how many clips of this length one batch may have."""
        ...

    def memory(self, run: Callable[[], None]) -> int | None:
        """Return the bytes that `run` takes at its peak; None if nobody knows."""
        ...

    def learn(self, row: RowMemory) -> None:
        """Say what a row of a batch takes, for `max_rows`."""
        ...

    def close(self) -> None:
        """Give its memory back."""
        ...


class EngineSubject:
    """An engine of its own, with these `options`."""

    def __init__(self, folder: Path, options: RuntimeOptions) -> None:
        """Load and verify what most requests need. Raises EngineError."""
        self._engine = engine = Engine(folder, options=options)
        self._rate = engine.manifest.sample_rate
        self.shortest, self.longest = engine.manifest.seconds
        self._generation = engine.manifest.generation
        graphs = [engine.start_graph, engine.step_graph] if self._generation else [engine.full_graph]
        self.device, *_ = [engine.load(graph).device for graph in graphs]
        self.weights = sum((folder / file).stat().st_size for graph in graphs for file in graph.sha256)
        names = {"encode": "embeddings", "transcribe": "logits", "classify": "logits"}
        self._outputs = sorted({names[task] for task in engine.manifest.tasks} & set(engine.full_graph.outputs))
        self._clips: dict[float, Clip] = {}

    def batch(self, length: float, count: int) -> None:
        """Run `count` clips of `length` seconds as one batch; with a decoder, as far as the first token."""
        clips = [self._clip(length)] * count
        if self._generation is None:
            self._engine.run(clips, self._outputs)
        else:
            self._engine.start(clips, self._generation.search.num_beams)

    def clips(self, length: float, count: int, workers: int) -> None:
        """Run `count` clips, each alone and to its end, in as many threads as there are workers."""
        self._clip(length)  # not made in several threads, nor as a part of what is timed the second time
        with ThreadPoolExecutor(workers) as threads:
            for done in [threads.submit(self._whole, length) for _ in range(count)]:
                done.result()

    def max_rows(self, length: float) -> int:
        """Return how many clips of this length one batch may have."""
        return self._engine.max_rows(self._samples(length))

    def memory(self, run: Callable[[], None]) -> int | None:
        """Return the bytes that `run` takes at its peak; on a GPU the arena keeps them, and they are counted after."""
        if self.device == "cpu":
            return peak_bytes(run)
        before = cuda.free_memory()
        run()
        after = cuda.free_memory()
        return None if before is None or after is None else max(0, before - after)

    def learn(self, row: RowMemory) -> None:
        """Say what a row of a batch takes, for `max_rows`."""
        self._engine.tune(1, row)

    def close(self) -> None:
        """Give its memory back."""
        self._engine.close()

    def _whole(self, length: float) -> None:
        if self._generation is None:
            self.batch(length, 1)
            return
        beams = self._generation.search.num_beams
        state = self._engine.start([self._clip(length)], beams)
        parents = np.zeros((1, beams), np.int64)
        for _ in range(min(STEPS, self._generation.max_positions or STEPS)):
            self._engine.step(state, np.full((1, beams), self._generation.start_token, np.int64), parents)

    def _samples(self, length: float) -> int:
        manifest = self._engine.manifest
        return min(max(round(length * self._rate), manifest.min_samples), manifest.max_samples)

    def _clip(self, length: float) -> Clip:
        if length not in self._clips:
            noise = np.random.default_rng(0).standard_normal(self._samples(length))
            self._clips[length] = (0.1 * noise).astype(np.float32)  # as loud as speech
        return self._clips[length]
