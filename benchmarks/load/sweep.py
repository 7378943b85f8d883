"""Several loads, one after the other, on each of what is asked; what is measured is kept as it comes."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from benchmarks import console, record
from benchmarks.load import measure, targets
from benchmarks.load.adapters.base import Result
from benchmarks.load.client import Request
from benchmarks.load.measure import Target
from benchmarks.load.session import Measured
from benchmarks.load.targets import Place
from benchmarks.records.serving import ClosedLoop, Figures, OpenLoop

LoopT = TypeVar("LoopT", ClosedLoop, OpenLoop)
Show = Callable[[str, float], None]  # what is going on, and how many cells are done


class Asking:
    """One place: it is served from the first measurement on, and single requests are asked only once."""

    def __init__(self, place: Place, arguments: argparse.Namespace, show: Show, done: int) -> None:
        self.place = place
        self._arguments, self._show, self._done = arguments, show, done
        self._serving = ExitStack()
        self._target: Target | None = None
        self._asked: Sequence[Request] = ()
        self._alone: Mapping[int, Result] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._serving.close()

    @property
    def mean_seconds(self) -> float:
        """Of the clips that are asked; call it after a measurement."""
        return sum(request.seconds for request in self._asked) / len(self._asked)

    def closed(self, clients: int) -> Figures:
        """Measure the closed loop."""
        return self._measure(f"{clients} clients", partial(measure.closed, clients=clients))

    def open_(self, rate: float) -> Figures:
        """Measure the open loop."""
        return self._measure(f"{rate:.3g} requests/s", partial(measure.open_, rate=rate, seed=self._arguments.seed))

    def _measure(self, load: str, loop: Callable[..., Measured]) -> Figures:
        doing = console.Doing(self._show, f"{self.place.name}, {load}", self._done)
        if self._target is None:
            self._target = self._serving.enter_context(self.place.serve())
            self._asked = self.place.requests(self._target, self._arguments)
        measured = loop(
            self._target,
            self._asked,
            rule=targets.rule(self._arguments),
            objective=self._arguments.objective,
            alone=self._alone,
            tick=doing.tick,
        )
        self._done += 1
        self._alone = measured.alone
        return measured.figures


def over(
    places: Sequence[Place],
    begun: LoopT,
    arguments: argparse.Namespace,
    cells: int,
    grow: Callable[[Asking, LoopT], Iterable[LoopT]],
) -> LoopT:
    """Let `grow` add the cells of each place, about so many, to what an earlier run of the same command has left.

    It yields the record each time that it has grown.
    """
    part = arguments.output.with_name(f".{arguments.output.stem}.part") if arguments.output else None
    found = _kept(part, begun)
    with console.progress_bar(len(places) * cells) as progress:
        for index, place in enumerate(places):
            with Asking(place, arguments, progress, index * cells) as asking:
                for grown in grow(asking, found):
                    found = grown
                    if part:
                        record.write(found, part)
    if part:
        part.unlink(missing_ok=True)
    return found


def described(arguments: argparse.Namespace) -> dict[str, object]:
    """Return the fields of a record that say how it was measured."""
    return {
        "target": targets.about(arguments),
        "options": dict([*arguments.settings, *arguments.options]),
        "distribution": arguments.lengths.name,
        "lengths": arguments.lengths.about,
        "content": arguments.content,
        "clips": arguments.clips,
        "timeout": arguments.timeout,
        "window_requests": arguments.requests,
        "objective": arguments.objective,
        "window": arguments.window,
        "most_windows": arguments.windows,
        "agreement": arguments.within,
    }


def _kept(part: Path | None, begun: LoopT) -> LoopT:
    """Return what `part` has of the same as `begun`, or else that."""
    found = record.earlier(part, type(begun))
    return found if found is not None and _key(found) == _key(begun) else begun


def _key(loop: ClosedLoop | OpenLoop) -> str:
    """Return what must be the same for figures to stand in one table."""
    machine = loop.run.machine.model_copy(update={"load": 0.0})
    run = loop.run.model_copy(update={"machine": machine, "date": ""})
    return loop.model_copy(update={"run": run, "cells": ()}).model_dump_json(exclude={"capacities"})
