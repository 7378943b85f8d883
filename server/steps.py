"""Work that takes long, in steps: after each, others may have their turn, and work that nobody wants any more ends."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TypeAlias, TypeVar

T = TypeVar("T")

# It yields where a step ends, and returns what it was for.
Steps: TypeAlias = Generator[None, None, T]


def take(steps: Steps[T]) -> tuple[T] | None:
    """Take one step; return what comes of all of them if it was the last."""
    try:
        next(steps)
    except StopIteration as ended:
        return (ended.value,)
    return None


def finish(steps: Steps[T]) -> T:
    """Take all steps at once; return what comes of them."""
    while (ended := take(steps)) is None:
        pass
    return ended[0]


def at_once(function: Callable[[], T]) -> Steps[T]:
    """Return `function` as a single step."""
    yield from ()
    return function()
