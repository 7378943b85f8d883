"""What can be asked of an engine. A task names the outputs that it needs, and makes a result of a clip's windows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from engines.batch import Row
from server.decoding.search import Plan
from server.kept import Kept
from server.windows import Geometry, Window


class Windowed(Protocol):
    """What takes clips of any length, if it is `windowed`; else those that the engine takes at once."""

    @property
    def geometry(self) -> Geometry:
        """How clips are cut."""
        ...

    @property
    def windowed(self) -> bool:
        """Whether they are."""
        ...


class Task(Windowed, Protocol):
    """What is made of an engine's outputs."""

    @property
    def outputs(self) -> Sequence[str]:
        """Their names."""
        ...

    @property
    def kept(self) -> Kept:
        """What stays of them until the answer."""
        ...

    @property
    def reduce(self) -> Callable[[Window], Row] | None:
        """What makes of a window what is kept of it, in a thread as soon as it is done; None: it stays as it is."""
        ...


class WritingTask(Windowed, Protocol):
    """What a decoder writes."""

    @property
    def plan(self) -> Plan:
        """How."""
        ...
