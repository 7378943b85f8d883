"""One engine on several GPUs: its graphs on each, and a call goes to the one that has least to do.

Each GPU has an engine of its own, with its own replay of the golden clips at load and its own memory. Where one does
not work any more, which its golden clips show, the others go on without it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from engines.batch import Clip, Row
from engines.engine import Engine
from engines.errors import EngineError, OutOfMemoryError
from engines.generation import State
from engines.manifest import Graph
from engines.memory import RowMemory
from engines.runtimes import ConvSearch, RuntimeOptions, cuda

logger = logging.getLogger(__name__)

T = TypeVar("T")


def open_engine(folder: Path, name: str | None = None, options: RuntimeOptions | None = None) -> Engine:
    """Open the engine in `folder` on the GPU, or on all the GPUs, that `options` name. Raises EngineError."""
    options = options or RuntimeOptions()
    numbers = options.device_ids or (options.device_id,)
    if len(numbers) > 1 and options.device != "cpu":
        return ReplicatedEngine(folder, name, replace(options, device_ids=numbers))
    return Engine(folder, name, replace(options, device_id=numbers[0]))


@dataclass(eq=False)
class Gpu:
    """One GPU, with the engine on it."""

    number: int
    engine: Engine
    running: int = 0  # calls


class ReplicatedEngine(Engine):
    """An engine on several GPUs; safe to share between threads, and made to be called by one thread or more for each.

    It is itself the engine on the first: calls go to the methods of Engine, with the engine of the GPU that is chosen.
    """

    def __init__(self, folder: Path, name: str | None, options: RuntimeOptions) -> None:
        """Read engine.json of `folder`, once for each of `options.device_ids`. Raises as Engine does."""
        first, *others = options.device_ids
        super().__init__(folder, name, replace(options, device_id=first))
        copies = [Engine(folder, name, replace(options, device_id=number)) for number in others]
        for copy in copies:
            copy._verified = self._verified  # the files are the same: their hashes are checked once
        self.gpus = [Gpu(first, self), *(Gpu(number, copy) for number, copy in zip(others, copies, strict=True))]
        self._working = list(self.gpus)
        self._homes: WeakKeyDictionary[State, Gpu] = WeakKeyDictionary()  # where the arrays of each state are
        self._choosing = threading.Lock()

    @property
    def lost(self) -> tuple[int, ...]:
        """The numbers of the GPUs that do not work any more."""
        return tuple(gpu.number for gpu in self.gpus if gpu not in self._working)

    @property
    def device(self) -> str | None:
        """Where its graphs run; None as long as none is loaded."""
        found = (Engine.device.__get__(gpu.engine) for gpu in self._working)
        return next((device for device in found if device), None)

    @property
    def fallbacks(self) -> int:
        """How many forms were given up, on all GPUs."""
        return sum(Engine.fallbacks.__get__(gpu.engine) for gpu in self.gpus)

    def use(self, name: str) -> None:
        """Put a form in use on all GPUs."""
        for gpu in self.gpus:
            Engine.use(gpu.engine, name)

    def tune(self, threads: int, row: RowMemory, conv_search: ConvSearch | None = None) -> None:
        """Set how graphs are loaded, and what a row of a batch takes on each GPU."""
        for gpu in self.gpus:
            Engine.tune(gpu.engine, threads, row, conv_search)

    def max_rows(self, samples: int) -> int:
        """Return how many clips of so many samples a batch may have, whichever GPU it goes to."""
        return min(Engine.max_rows(gpu.engine, samples) for gpu in self._working)

    def close(self) -> None:
        """Drop the sessions of all GPUs."""
        for gpu in self.gpus:
            Engine.close(gpu.engine)

    def needs_load(self, outputs: Iterable[str]) -> bool:
        """Whether the graph that computes `outputs` is not loaded yet on some GPU."""
        wanted = list(outputs)
        return any(Engine.needs_load(gpu.engine, wanted) for gpu in self._working)

    def load_for(self, outputs: Iterable[str]) -> None:
        """Load the graph that computes `outputs` on every GPU."""
        wanted = list(outputs)
        self._everywhere(lambda engine: Engine.load_for(engine, wanted))

    def load_first(self) -> list[Graph]:
        """Load on every GPU what most requests need."""
        return self._everywhere(Engine.load_first)

    def recheck(self) -> bool:
        """Whether any GPU still reproduces the golden clips; those that do not are given up."""
        working = [gpu for gpu in list(self._working) if self._works(gpu)]
        for gpu in set(self._working) - set(working):
            self._give_up_gpu(gpu, "its golden clips do not come out any more")
        return bool(working)

    def run(self, clips: Sequence[Clip], outputs: Sequence[str]) -> list[Row]:
        """Run `clips` as one batch on one GPU; on another, where that one turns out not to work."""
        return self._somewhere(lambda engine: Engine.run(engine, clips, outputs))[1]

    def start(self, clips: Sequence[Clip], beams: int = 1) -> State:
        """Prepare `clips` for writing about them, on one GPU, where their state stays."""
        gpu, state = self._somewhere(lambda engine: Engine.start(engine, clips, beams))
        self._homes[state] = gpu
        return state

    def step(self, state: State, tokens: NDArray[np.int64], parents: NDArray[np.int64]) -> NDArray[np.float32]:
        """Advance every row of `state` on the GPU where it is; with a GPU that is lost, so are its states."""
        with self._calling(self._homes[state]) as gpu:
            try:
                return Engine.step(gpu.engine, state, tokens, parents)
            except (ValueError, OutOfMemoryError):  # it was asked wrongly, or for too much
                raise
            except Exception as error:
                self._suspect(gpu, error)
                raise

    def _somewhere(self, call: Callable[[Engine], T]) -> tuple[Gpu, T]:
        """Return what `call` returns on the GPU that has least to do, and that GPU."""
        while True:
            with self._calling() as gpu:
                try:
                    return gpu, call(gpu.engine)
                except (KeyError, ValueError, OutOfMemoryError):  # it was asked wrongly, or for too much
                    raise
                except Exception as error:
                    if not self._suspect(gpu, error):
                        raise

    @contextmanager
    def _calling(self, gpu: Gpu | None = None) -> Iterator[Gpu]:
        """Count a call of `gpu`, or else of the one that has least to do, as long as it takes."""
        with self._choosing:
            gpu = gpu or min(self._working, key=lambda gpu: gpu.running)
            gpu.running += 1
        try:
            yield gpu
        finally:
            with self._choosing:
                gpu.running -= 1

    def _everywhere(self, call: Callable[[Engine], T]) -> T:
        """Call it for every GPU, and return what came of the first; one where it fails is given up, but for the last.

        Raises what the last one does.
        """
        results: list[T] = []
        for gpu in list(self._working):
            try:
                results.append(call(gpu.engine))
            except EngineError as error:
                if not self._give_up_gpu(gpu, error):
                    raise
        return results[0]

    def _suspect(self, gpu: Gpu, error: Exception) -> bool:
        """Whether `error` was the fault of `gpu`, which is given up, and others go on."""
        return not self._works(gpu) and self._give_up_gpu(gpu, error)

    def _works(self, gpu: Gpu) -> bool:
        """Whether `gpu` answers at all, and what is loaded there reproduces the golden clips."""
        answers = Engine.device.__get__(gpu.engine) != "cuda" or cuda.free_memory(gpu.number) is not None
        return answers and Engine.recheck(gpu.engine)

    def _give_up_gpu(self, gpu: Gpu, reason: object) -> bool:
        """Use `gpu` no more, if there is another."""
        with self._choosing:
            if gpu in self._working and len(self._working) > 1:
                self._working.remove(gpu)
                logger.critical("%s: GPU %d is not used any more: %s", self.name, gpu.number, reason)
        return gpu not in self._working
