"""How long engines take when they stop early."""

from __future__ import annotations

from typing import Literal

from benchmarks.base import Model, Run, Table
from benchmarks.findings import Promise
from benchmarks.stats import Estimate, Timing

PROMISE = 1.1  # N layers take at most this many times (front end + N / L of the encoder)


class LayersCell(Model):
    """The graph that stops after so many layers."""

    layers: int
    time: Timing
    ideal_ms: float
    ratio: Estimate  # measured / ideal
    error: float  # of the hidden state, against the full graph


class Layers(Model):
    """Truncated graphs against what they would ideally take."""

    benchmark: Literal["layers"] = "layers"
    run: Run
    seconds: float
    num_layers: int
    rounds: int
    front_end: Timing
    full: Timing
    cells: tuple[LayersCell, ...]

    @property
    def title(self) -> str:
        """A heading."""
        return f"Truncated graphs: {_subject(self.run)}, clips of {self.seconds:g} s"

    @property
    def table(self) -> Table:
        """A row for each graph."""
        header = ["layers", "ms", "p95", "ideal ms", "ratio", "95 % interval", "error"]
        first = ["0 (front end)", *_timing(self.front_end), "", "", "", ""]
        rows = [
            [str(cell.layers), *_timing(cell.time), f"{cell.ideal_ms:.1f}", *_ratio(cell.ratio), f"{cell.error:.1e}"]
            for cell in self.cells
        ]
        return header, [first, *rows, [f"{self.num_layers} (all)", *_timing(self.full), "", "", "", ""]]

    @property
    def summary(self) -> str:
        """The figures that count."""
        worst = max(self.cells, key=lambda cell: cell.ratio.value)
        return (
            "The ratio is the measured time over the ideal one: front end + N/L of what the layers take. Largest: "
            f"{worst.ratio} at {worst.layers} of {self.num_layers} layers; promised is at most {PROMISE:g}. "
            f"{self.rounds} rounds."
        )

    @property
    def promises(self) -> tuple[Promise, ...]:
        """What stopping early may cost."""
        worst = max(self.cells, key=lambda cell: cell.ratio.value)
        what = f"{_subject(self.run)}: a graph that stops early, over front end + its share of the layers"
        found = f"{worst.ratio} at {worst.layers} of {self.num_layers} layers"
        return (Promise(what, f"at most {PROMISE:g}x", found, worst.ratio.value <= PROMISE),)


def _subject(run: Run) -> str:
    return f"{run.model} ({run.parameters / 1e6:.3g} M parameters), {run.threads} thread{'s' * (run.threads > 1)}"


def _timing(timing: Timing) -> tuple[str, str]:
    return f"{timing.median_ms:.1f}", f"{timing.p95_ms:.1f}"


def _ratio(ratio: Estimate) -> tuple[str, str]:
    return f"{ratio.value:.3f}", f"{ratio.low:.3f} to {ratio.high:.3f}"
