"""What `sonant bench load closed` and `sonant bench load open` write."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import ClassVar, Literal, Self

from benchmarks.base import Model, Run, Table
from benchmarks.charts.chart import Chart, Lines, Panel, Series
from benchmarks.records.load import Latencies, Load, threads

REFUSED = (429, 503)
OK = 200
ATTAINED = 0.99  # of the requests answered within the objective: their p99 is below it


class Batching(Model):
    """What the batches were like, as the server counts them."""

    batches: int
    clips: float  # in a batch
    padded_share: float  # mean of the batches


class Figures(Model):
    """A server at one load, over the windows that count."""

    stable: bool
    windows: int  # measured, the first one left out
    seconds: float  # of those that count
    requests: int
    offered: float  # requests a second
    offered_audio: float  # seconds of audio for each second
    statuses: dict[int, int]  # 0: the connection broke, -1: no answer in time
    wrong: int  # with status 200 and no result
    objective: float  # seconds
    goodput: float  # seconds of audio for each second: of results within the objective
    goodput_requests: float  # the same in requests a second
    throughput: float  # the same as goodput, however late
    within: float  # share of all requests that had their result within the objective
    latency: Latencies  # of results
    load: Load
    batching: Batching | None
    checked: int  # results that were compared with that of the same clip alone
    error: float  # the largest difference found

    @property
    def refused(self) -> int:
        """Requests that the server had no room for."""
        return sum(self.statuses.get(status, 0) for status in REFUSED)

    @property
    def failed(self) -> int:
        """Requests that came to nothing otherwise, wrong results among them."""
        return self.requests - self.statuses.get(OK, 0) - self.refused + self.wrong

    @property
    def meets(self) -> bool:
        """Whether the server bears this load: p99 within the objective, from window to window."""
        return self.stable and self.within >= ATTAINED

    @property
    def cells(self) -> list[str]:
        """For a table, under HEADER."""
        batching, load = self.batching, self.load
        padding = ["", ""] if batching is None else [f"{100 * batching.padded_share:.1f}", f"{batching.clips:.2f}"]
        cores = ["" if math.isnan(busy) else f"{busy:.2f}" for busy in (load.server_cores, load.generator_cores)]
        return [
            *(str(self.requests), f"{self.goodput:.1f}", f"{self.goodput_requests:.2f}", f"{100 * self.within:.1f}"),
            *(*self.latency.cells, str(self.refused), str(self.failed)),
            *(*padding, *cores),
            *(f"{self.error:.1e}" if self.checked else "", "yes" if self.stable else "no"),
        ]


HEADER = [
    *("sent", "goodput s/s", "/s", "in time %", "p50 ms", "p95", "p99", "refused", "failed", "padded %", "clips"),
    *("cores", "generator", "error", "stable"),
]


class Cell(Model):
    """One engine, or what else is asked, at one load: so many clients, or requests a second."""

    model: str
    load: float
    figures: Figures


class Serving(Model):
    """What both loops share."""

    run: Run
    target: str  # what was asked
    options: dict[str, str]  # of the server and of how it was asked, where they are not the usual ones
    distribution: str  # of the lengths of the clips
    lengths: str  # the same, for people
    content: str
    clips: int  # different ones
    objective: float
    timeout: float
    window: float
    window_requests: int  # at least, as the seconds
    most_windows: int
    agreement: float
    cells: tuple[Cell, ...]

    loop: ClassVar[str]
    column: ClassVar[str]  # what the load is
    axis: ClassVar[str]
    log_x: ClassVar[bool] = False

    @property
    def title(self) -> str:
        """A heading."""
        return f"{self.loop}: {self.run.model}, {self.distribution}, {threads(self.run)}"

    @property
    def table(self) -> Table:
        """A row for each load."""
        rows = [[cell.model, f"{cell.load:.4g}", *cell.figures.cells] for cell in self.cells]
        return ["engine", self.column, *HEADER], rows

    @property
    def charts(self) -> tuple[Chart, ...]:
        """Latency and goodput over the load, for each engine with several loads that it bears."""
        answered = {model: [cell for cell in self.of(model) if cell.figures.throughput] for model in self.models}
        return tuple(self._chart(model, cells) for model, cells in answered.items() if len(cells) > 1)

    def plus(self, model: str, load: float, figures: Figures) -> Self:
        """Return it with one cell more."""
        return self.model_copy(update={"cells": (*self.cells, Cell(model=model, load=load, figures=figures))})

    @property
    def models(self) -> list[str]:
        """The names of what was asked, each once."""
        return list(dict.fromkeys(cell.model for cell in self.cells))

    def of(self, model: str) -> list[Cell]:
        """Return the cells of one of them, by their load."""
        return sorted((cell for cell in self.cells if cell.model == model), key=lambda cell: cell.load)

    def x(self, cell: Cell) -> float:
        """Return where a cell stands on the axis."""
        return cell.load

    def limit(self, cells: Sequence[Cell]) -> tuple[Series, ...]:
        """Return what goodput cannot be above."""
        return ()

    def _chart(self, model: str, cells: Sequence[Cell]) -> Chart:
        x = tuple(self.x(cell) for cell in cells)
        latencies = [cell.figures.latency for cell in cells]
        percentiles = (
            Series("p50", x, tuple(latency.p50_ms for latency in latencies)),
            Series("p99", x, tuple(latency.p99_ms for latency in latencies)),
        )
        goodput = Series("goodput", x, tuple(cell.figures.goodput for cell in cells))
        name = " ".join([self.loop, model, self.distribution, *(f"{key} {value}" for key, value in self._unusual)])
        return Lines(
            name=re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-"),
            title=f"{self.loop}: {model}, {self.distribution}",
            alt=f"Latency and goodput of {model}, {self.axis} from {x[0]:.3g} to {x[-1]:.3g}.",
            panels=(
                Panel("Latency", self.axis, "ms", percentiles, log_x=self.log_x, log_y=True),
                Panel("Goodput", self.axis, "audio s/s", (goodput, *self.limit(cells)), log_x=self.log_x),
            ),
        )

    @property
    def _unusual(self) -> list[tuple[str, str]]:
        threads = [("threads", str(self.run.threads))] if self.run.threads != 1 else []
        return sorted([*self.options.items(), *threads])

    @property
    def subject(self) -> str:
        """What was asked for what, for the summary."""
        options = ", ".join(f"{name}={value}" for name, value in self._unusual)
        return (
            f"{self.target}{f' ({options})' if options else ''}; {self.clips} clips of {self.content}, {self.lengths}"
        )

    @property
    def measurement(self) -> str:
        """How it was measured, for the summary."""
        unstable = sum(not cell.figures.stable for cell in self.cells)
        return (
            f"Goodput counts results within {self.objective:g} s, as seconds of audio for each second and as requests; "
            f"refused are 429 and 503, failed is all else. The error is the largest difference of a result under load "
            f"from that of the same clip alone. Padding and clips of a batch are as the server counts them, cores "
            f"those that it kept busy, and the load generator beside it. Windows of at least {self.window:g} s, until "
            f"the throughput of three and their mean latency are within {100 * self.agreement:g} % of their means; "
            f"{'all are stable' if not unstable else f'not so after {self.most_windows}: {unstable}'}."
        )


class ClosedLoop(Serving):
    """So many clients, each of which waits for its answer."""

    benchmark: Literal["load-closed"] = "load-closed"
    loop = "Closed loop"
    column = axis = "clients"
    log_x = True

    @property
    def summary(self) -> str:
        """The figures that count."""
        best = [max(self.of(model), key=lambda cell: cell.figures.goodput) for model in self.models]
        found = "; ".join(
            f"{cell.model} {cell.figures.goodput:.1f} s/s with {cell.load:g} clients, p99 "
            f"{cell.figures.latency.p99_ms:.0f} ms"
            for cell in best
        )
        return f"{self.subject}. Largest goodput: {found}. {self.measurement}"


class OpenLoop(Serving):
    """Requests at random times, whatever becomes of the others."""

    benchmark: Literal["load-open"] = "load-open"
    loop = "Open loop"
    column = "offered/s"
    axis = "offered, audio s/s"
    clients: int
    capacities: dict[str, float]  # requests a second of a closed loop with so many clients, where rates come from that

    def x(self, cell: Cell) -> float:
        """Return the audio that was offered."""
        return cell.figures.offered_audio

    def limit(self, cells: Sequence[Cell]) -> tuple[Series, ...]:
        """Return what was offered."""
        offered = tuple(cell.figures.offered_audio for cell in cells)
        return (Series("offered", offered, offered),)

    @property
    def summary(self) -> str:
        """The figures that count."""
        found = []
        for model in self.models:
            borne = [cell for cell in self.of(model) if cell.figures.meets]
            found.append(
                f"{model} {borne[-1].load:.3g} requests/s, {borne[-1].figures.offered_audio:.1f} s/s of audio"
                if borne
                else f"{model} none of these"
            )
        return (
            f"{self.subject}. Requests come at random times (Poisson); latency counts from when each "
            f"was to be sent. Highest load with p99 within {self.objective:g} s: {'; '.join(found)}. {self.measurement}"
        )
