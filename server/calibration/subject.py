"""An engine under measurement."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from pathlib import Path
from typing import Protocol

import numpy as np

from engines.batch import Clip
from engines.engine import Engine
from engines.generation import State
from engines.manifest import Generation
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
    beams: int  # for each clip that it writes about; 0 without a decoder

    def batch(self, length: float, count: int) -> None:
        """Run `count` clips of `length` seconds as one batch; with a decoder, as far as the first token."""
        ...

    def clips(self, length: float, count: int, workers: int) -> None:
        """Run `count` clips, each alone and to its end, in as many threads as there are workers."""
        ...

    def steps(self, length: float, count: int) -> None:
        """Write a few tokens about `count` clips together, which are started the first time only."""
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
    """An engine of its own, with these `options`, in one of its forms."""

    def __init__(self, folder: Path, options: RuntimeOptions, form: str | None = None) -> None:
        """Load and verify what most requests need; no other form stands in. Raises EngineError."""
        self._engine = engine = Engine(folder, options=options)
        if form is not None:
            engine.use(form)
        self._rate = engine.manifest.sample_rate
        self.shortest, self.longest = engine.manifest.seconds
        self._generation = engine.manifest.generation
        graphs = engine.first_graphs
        self.device, *_ = [engine.load(graph).device for graph in graphs]
        self.weights = engine.file_bytes(graphs)
        # The arena of a GPU keeps what it has taken: each run is counted from here.
        self._gpu = options.device_id
        self._free = cuda.free_memory(self._gpu) if self.device == "cuda" else None
        self._outputs = sorted(set(engine.manifest.task_outputs.values()))
        self.beams = self._generation.search.num_beams if self._generation else 0
        self._clips: dict[float, Clip] = {}
        self._started: dict[tuple[float, int], State] = {}

    def batch(self, length: float, count: int) -> None:
        """Run `count` clips of `length` seconds as one batch; with a decoder, as far as the first token."""
        clips = [self._clip(length)] * count
        if self._generation is None:
            self._engine.run(clips, self._outputs)
        else:
            self._engine.start(clips, self.beams)

    def clips(self, length: float, count: int, workers: int) -> None:
        """Run `count` clips, each alone and to its end, in as many threads as there are workers."""
        self._clip(length)  # not made in several threads, nor as a part of what is timed the second time
        with ThreadPoolExecutor(workers) as threads:
            for done in [threads.submit(self._whole, length) for _ in range(count)]:
                done.result()

    def steps(self, length: float, count: int) -> None:
        """Write a few tokens about `count` clips together, which are started the first time only."""
        if self._generation is None:
            raise KeyError("generation")
        if (length, count) not in self._started:
            self._started[length, count] = self._engine.start([self._clip(length)] * count, self.beams)
        # A step puts other arrays in place of those of a state.
        self._write(self._generation, copy(self._started[length, count]))

    def max_rows(self, length: float) -> int:
        """Return how many clips of this length one batch may have."""
        return self._engine.max_rows(self._samples(length))

    def memory(self, run: Callable[[], None]) -> int | None:
        """Return the bytes that `run` takes at its peak; on a GPU those that any run has taken so far."""
        if self.device == "cpu":
            return peak_bytes(run)
        run()
        free = cuda.free_memory(self._gpu)
        return None if self._free is None or free is None else max(0, self._free - free)

    def learn(self, row: RowMemory) -> None:
        """Say what a row of a batch takes, for `max_rows`."""
        self._engine.tune(1, row)

    def close(self) -> None:
        """Give its memory back."""
        self._started.clear()
        self._engine.close()

    def _whole(self, length: float) -> None:
        if self._generation is None:
            self.batch(length, 1)
            return
        self._write(self._generation, self._engine.start([self._clip(length)], self.beams))

    def _write(self, generation: Generation, state: State) -> None:
        tokens = np.full((state.clips, state.beams), generation.start_token, np.int64)
        for _ in range(min(STEPS, generation.max_positions or STEPS)):
            self._engine.step(state, tokens, np.zeros_like(tokens))

    def _samples(self, length: float) -> int:
        manifest = self._engine.manifest
        return min(max(round(length * self._rate), manifest.min_samples), manifest.max_samples)

    def _clip(self, length: float) -> Clip:
        if length not in self._clips:
            noise = np.random.default_rng(0).standard_normal(self._samples(length))
            self._clips[length] = (0.1 * noise).astype(np.float32)  # as loud as speech
        return self._clips[length]
