"""What `sonant bench startup` writes."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Literal

from benchmarks.base import Model, Run, Table
from benchmarks.findings import Promise

# What is promised of the demo's engines together, and of a server with one engine of base size in fp32.
READY_SECONDS = 2.0
TIMES_WEIGHTS, BASE_MIB = 1.3, 300.0
SLOWEST = 10  # packages that the table shows


class Start(Model):
    """One start; seconds count from when the process began."""

    listening_seconds: float
    ready_seconds: float
    cpu_seconds: float  # of processors, until it was ready
    first_seconds: float  # the first request
    next_seconds: float  # the same again
    anonymous_mib: float  # when it was ready and nothing had been asked
    file_mib: float
    asked_mib: float  # all that was in memory after the two requests
    peak_mib: float

    @property
    def idle_mib(self) -> float:
        """All that is in memory before the first request."""
        return self.anonymous_mib + self.file_mib


class StartCell(Model):
    """A server with some engines, started several times."""

    what: str
    engines: tuple[str, ...]
    weights_mib: float  # of the graphs that it loads
    starts: tuple[Start, ...]

    def median(self, value: Callable[[Start], float]) -> float:
        """Return the median over the starts."""
        return median(map(value, self.starts))

    def worst(self, value: Callable[[Start], float]) -> float:
        """Return the largest of the starts."""
        return max(map(value, self.starts))

    @property
    def times_weights(self) -> float:
        """What the idle server has in memory at the most, over what its weights are."""
        return self.worst(lambda start: start.idle_mib) / self.weights_mib


class Startup(Model):
    """How long a server takes to start, and what it has in memory then."""

    benchmark: Literal["startup"] = "startup"
    run: Run
    seconds: float  # of the clip that is sent
    cells: tuple[StartCell, ...]
    import_what: str  # whose imports these are
    imports: dict[str, float]  # milliseconds by package, without what it imports of others

    @property
    def title(self) -> str:
        """A heading."""
        return f"Start and idle memory, {self.run.threads} thread{'s' * (self.run.threads > 1)}"

    @property
    def table(self) -> Table:
        """A row for each server."""
        header = ["engines", "starts", "listens s", "ready s", "worst", "CPU s", "first ms", "next"]
        memory = ["weights MiB", "idle MiB", "own", "files", "x weights", "asked", "peak"]
        return [*header, *memory], [self._row(cell) for cell in self.cells]

    @staticmethod
    def _row(cell: StartCell) -> list[str]:
        return [
            *(cell.what, str(len(cell.starts))),
            f"{cell.median(lambda start: start.listening_seconds):.2f}",
            f"{cell.median(lambda start: start.ready_seconds):.2f}",
            f"{cell.worst(lambda start: start.ready_seconds):.2f}",
            f"{cell.median(lambda start: start.cpu_seconds):.2f}",
            f"{1e3 * cell.median(lambda start: start.first_seconds):.1f}",
            f"{1e3 * cell.median(lambda start: start.next_seconds):.1f}",
            f"{cell.weights_mib:.1f}",
            f"{cell.median(lambda start: start.idle_mib):.1f}",
            f"{cell.median(lambda start: start.anonymous_mib):.1f}",
            f"{cell.median(lambda start: start.file_mib):.1f}",
            f"{cell.times_weights:.2f}",
            f"{cell.median(lambda start: start.asked_mib):.1f}",
            f"{cell.median(lambda start: start.peak_mib):.1f}",
        ]

    @property
    def summary(self) -> str:
        """The figures that count."""
        return (
            "From the start of the process: until it takes connections, until every engine is loaded and has "
            "reproduced its golden clips, and the processor time until then; medians, and the worst start. The file "
            f"cache is warm. Then the same clip of {self.seconds:g} s twice. Idle is what is in memory before that: "
            "the process's own, and pages of files, which processes share and the system can take back; the factor is "
            "that of the worst start. Asked is what is there after the two requests. Imports, as Python counts them, "
            f"took {sum(self.imports.values()):.0f} ms of a start with {self.import_what}, slowed by the counting."
        )

    @property
    def tables(self) -> tuple[tuple[str, Table], ...]:
        """The packages that take longest to import."""
        all_ms = sum(self.imports.values())
        slowest = list(self.imports.items())[:SLOWEST]
        rows = [[package, f"{ms:.0f}", f"{100 * ms / all_ms:.0f}"] for package, ms in slowest]
        return (("What takes the time of imports", (["package", "ms without what it imports", "% of all"], rows)),)

    @property
    def promises(self) -> tuple[Promise, ...]:
        """When the demo is ready, and what one engine of base size takes."""
        found = []
        for cell in self.cells:
            ready = cell.median(lambda start: start.ready_seconds)
            if cell.what == DEMO:
                found.append(
                    Promise(
                        f"ready with {cell.what}, from the start of the process",
                        f"at most {READY_SECONDS:g} s",
                        f"{ready:.2f} s (worst {cell.worst(lambda start: start.ready_seconds):.2f})",
                        ready <= READY_SECONDS,
                    )
                )
            elif cell.weights_mib >= BASE_MIB:
                found.append(
                    Promise(
                        f"memory of the idle server with {cell.what}, over its weights",
                        f"at most {TIMES_WEIGHTS:g}x",
                        f"{cell.times_weights:.2f}x",
                        cell.times_weights <= TIMES_WEIGHTS,
                    )
                )
        return tuple(found)


DEMO = "the demo's engines"
