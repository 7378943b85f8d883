"""What `sonant bench headlines` writes."""

from __future__ import annotations

from typing import Literal

from benchmarks.base import Model, Run, Table
from benchmarks.charts.chart import Bar, Bars
from benchmarks.stats import Estimate, Timing


class Side(Model):
    """One of the two that are compared."""

    model: str
    like: str  # the published checkpoint whose configuration it has
    parameters: int
    seconds: float  # of the clip
    sonant: Timing
    transformers: Timing | None  # None for a variant that it does not have


class Headline(Model):
    """What the authors of a family say of it, and what is measured."""

    what: str
    claim: str
    rounds: int
    slow: Side
    fast: Side
    sonant: Estimate  # the time of the slow side over that of the fast one
    transformers: Estimate | None
    error: float | None  # of the embeddings, the larger of both sides, against transformers


class Headlines(Model):
    """The seeds' own headlines, as ratios of two times taken side by side."""

    benchmark: Literal["headlines"] = "headlines"
    run: Run
    cells: tuple[Headline, ...]

    @property
    def title(self) -> str:
        """A heading."""
        return f"What the families promise, {self.run.threads} thread{'s' * (self.run.threads > 1)}"

    @property
    def table(self) -> Table:
        """A row for each headline."""
        header = ["compared", "M parameters", "Sonant ms", "transformers ms", "rounds"]
        rows = [
            [
                cell.what,
                f"{cell.slow.parameters / 1e6:.1f} / {cell.fast.parameters / 1e6:.1f}",
                f"{cell.slow.sonant.median_ms:.0f} / {cell.fast.sonant.median_ms:.0f}",
                "-"
                if cell.slow.transformers is None or cell.fast.transformers is None
                else f"{cell.slow.transformers.median_ms:.0f} / {cell.fast.transformers.median_ms:.0f}",
                str(cell.rounds),
                *(str(cell.sonant), "-" if cell.transformers is None else str(cell.transformers)),
                "-" if cell.error is None else f"{cell.error:.1e}",
            ]
            for cell in self.cells
        ]
        return [*header, "ratio in Sonant", "ratio in transformers", "error"], rows

    @property
    def summary(self) -> str:
        """The claims, and what stands for whom."""
        claims = " ".join(f"{cell.what}: {cell.claim}." for cell in self.cells)
        sides = {side.model: side.like for cell in self.cells for side in (cell.slow, cell.fast)}
        likes = "; ".join(f"{model} as {like}" for model, like in sides.items())
        return (
            "The ratio is the time of the first over that of the second, in fp32, from waveforms to embeddings, each "
            f"timed in turn in Sonant and in transformers. {claims} Configurations, with random weights: {likes}."
        )

    @property
    def charts(self) -> tuple[Bars, ...]:
        """A bar for each ratio."""
        rows = tuple(
            Bar(name, ratio.value, ratio.low, ratio.high, cell.what)
            for cell in self.cells
            for name, ratio in (("Sonant", cell.sonant), ("transformers", cell.transformers))
            if ratio is not None
        )
        alt = "How many times as long the first takes as the second, of each pair, in Sonant and in transformers."
        return (Bars("headlines", "What the families promise", alt, "time of the first / of the second", rows, 1.0),)
