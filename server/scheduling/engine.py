"""What the scheduler asks of engines.engine.Engine."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from server.scheduling.live import GeneratingEngine
from server.scheduling.runs import RunningEngine


class Graph(Protocol):
    """A graph, as far as the scheduler looks at it."""

    @property
    def layers(self) -> int:
        """How many layers of the encoder it runs."""
        ...


class BatchEngine(GeneratingEngine, RunningEngine, Protocol):
    """Runs clips in batches, and writes about them."""

    @property
    def full_graph(self) -> Graph:
        """The graph that runs every layer, and computes every output."""
        ...

    def graph_for(self, outputs: Iterable[str]) -> Graph:
        """Return the graph that computes `outputs`; KeyError names one that none computes."""
        ...

    def max_rows(self, samples: int) -> int:
        """Return how many clips of that length one batch may hold."""
        ...

    def needs_load(self, outputs: Iterable[str]) -> bool:
        """Whether the graph that computes `outputs` is not loaded yet."""
        ...

    def load_for(self, outputs: Iterable[str]) -> None:
        """Load the graph that computes `outputs`. Raises EngineError."""
        ...

    def recheck(self) -> bool:
        """Whether the engine still reproduces its golden clips."""
        ...
