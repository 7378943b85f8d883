"""What `sonant bench growth` writes: a record for each thing that grows."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

from benchmarks.base import Model, Run, Table
from benchmarks.charts.chart import Lines, Panel, Series, file_name
from benchmarks.stats import Estimate

Axis = Literal["lengths", "batches", "models", "clients"]


class GrowthPoint(Model):
    """One size. What was not measured is not a number."""

    x: float
    rounds: int  # calls, requests or starts
    median_ms: float
    p95_ms: float
    audio_per_second: float  # seconds of audio for each second
    memory_mib: float  # the most meanwhile; of models, what the idle server has
    refused: int = 0  # requests, with 429 or 503


class GrowthLine(Model):
    """One engine, asked in one way."""

    name: str
    base_mib: float  # memory before anything is asked, or with the smallest size
    points: tuple[GrowthPoint, ...]
    time: Estimate | None  # the power of x by which time grows
    memory: Estimate | None  # and memory beyond `base_mib`


class Words(Model):
    """What is said of an axis."""

    title: str
    x: str  # on the chart's axis
    column: str
    time: str
    about: str


WORDS: dict[Axis, Words] = {
    "lengths": Words(
        title="Growth with the length of a clip",
        x="length of the clip, s",
        column="clip s",
        time="ms",
        about="One clip at a time, to the longest that an engine takes at once, and to an hour over HTTP, in windows. "
        "Embeddings, pooled over HTTP. Memory is the most that the process had meanwhile.",
    ),
    "batches": Words(
        title="Growth with the batch",
        x="clips in a batch",
        column="clips",
        time="ms",
        about="Clips of one length in one call of the engine. Memory is the most that the process had meanwhile.",
    ),
    "models": Words(
        title="Growth with the models that are loaded",
        x="models",
        column="models",
        time="ready ms",
        about="Copies of one engine under as many names: from the start of the process until all are ready, and what "
        "the idle server has in memory.",
    ),
    "clients": Words(
        title="Growth with the clients",
        x="clients",
        column="clients",
        time="median ms",
        about="Each client sends the next clip when it has its answer, over a connection of its own. Memory is the "
        "most that the server had meanwhile.",
    ),
}


class Growth(Model):
    """How time and memory grow along one axis."""

    benchmark: Literal["growth"] = "growth"
    run: Run
    axis: Axis
    seconds: float | None  # of a clip; None where that is what grows, or nothing is asked
    lines: tuple[GrowthLine, ...]

    @property
    def words(self) -> Words:
        """What is said of its axis."""
        return WORDS[self.axis]

    @property
    def title(self) -> str:
        """A heading."""
        clips = "" if self.seconds is None else f", clips of {self.seconds:g} s"
        return f"{self.words.title}{clips}, {self.run.threads} thread{'s' * (self.run.threads > 1)}"

    @property
    def table(self) -> Table:
        """A row for each engine and size."""
        header = ["engine", self.words.column, "rounds", self.words.time, "p95", "audio s/s", "MiB", "added MiB"]
        rows = [
            [
                *(line.name, f"{point.x:g}", str(point.rounds), f"{point.median_ms:.1f}", _known(point.p95_ms)),
                *(_known(point.audio_per_second), _known(point.memory_mib), _known(point.memory_mib - line.base_mib)),
                *([str(point.refused)] if self.axis == "clients" else []),
            ]
            for line in self.lines
            for point in line.points
        ]
        return [*header, *(["refused"] if self.axis == "clients" else [])], rows

    @property
    def summary(self) -> str:
        """The figures that count."""
        found = "; ".join(
            f"{line.name}: time {_power(line.time)}, memory beyond {line.base_mib:.0f} MiB {_power(line.memory)}"
            for line in self.lines
        )
        return (
            f"{self.words.about} Powers by which they grow with the {self.words.x.partition(',')[0]}, fitted to the "
            f"logarithms (1: in proportion, 0: not at all; 95 % interval): {found}.{self._more}"
        )

    @property
    def _more(self) -> str:
        """What each further model takes, over all of them."""
        if self.axis != "models" or any(len(line.points) < 2 for line in self.lines):
            return ""
        steps = [(line.name, line.points[0], line.points[-1]) for line in self.lines]
        return "".join(
            f" A further {name} takes {(last.median_ms - first.median_ms) / (last.x - first.x):.0f} ms and "
            f"{(last.memory_mib - first.memory_mib) / (last.x - first.x):.1f} MiB."
            for name, first, last in steps
        )

    @property
    def charts(self) -> tuple[Lines, ...]:
        """Time and memory along the axis, and throughput where that is not the same."""
        panels: list[tuple[str, Callable[[GrowthPoint], float], bool]] = [
            ("time, s", lambda point: point.median_ms / 1e3, True),
            ("memory, MiB", lambda point: point.memory_mib, False),
        ]
        if self.axis in ("batches", "clients"):
            panels.insert(1, ("seconds of audio per second", lambda point: point.audio_per_second, False))
        alt = f"How time and memory grow with the {self.words.x.partition(',')[0]}, a line for each engine."
        drawn = tuple(
            Panel("", self.words.x, name, lines, log_x=True, log_y=log)
            for name, value, log in panels
            if (lines := self._lines(value))
        )
        return (Lines(file_name("growth", self.axis, self.run.model), self.title, alt, drawn),)

    def _lines(self, value: Callable[[GrowthPoint], float]) -> tuple[Series, ...]:
        lines = {line.name: [(point.x, value(point)) for point in line.points] for line in self.lines}
        known = {name: [(x, y) for x, y in points if math.isfinite(y)] for name, points in lines.items()}
        return tuple(
            Series(name, tuple(x for x, _ in points), tuple(y for _, y in points))
            for name, points in known.items()
            if points
        )


def _known(value: float) -> str:
    return f"{value:.1f}" if math.isfinite(value) else "-"


def _power(fitted: Estimate | None) -> str:
    return "not fitted" if fitted is None else f"{fitted.value:.2f} ({fitted.low:.2f} to {fitted.high:.2f})"
