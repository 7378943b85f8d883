"""What changes to the exporter have gained."""

from __future__ import annotations

from typing import Literal

from benchmarks.base import Model, Run, Table
from benchmarks.stats import Estimate, Timing


class ChangeCell(Model):
    """One engine before a change and after it, on clips of one length."""

    what: str  # the change
    model: str
    form: str
    seconds: float
    threads: int
    before: Timing
    after: Timing
    ratio: Estimate  # before / after
    difference: float  # of the embeddings, the largest over the largest of those before
    rounds: int
    date: str
    commit: str | None

    @property
    def key(self) -> tuple[str, str, str, float, int]:
        """What another run of the same stands in place of."""
        return self.what, self.model, self.form, self.seconds, self.threads


class Changes(Model):
    """Changes, with what each did to some engines."""

    benchmark: Literal["changes"] = "changes"
    run: Run  # the last one
    cells: tuple[ChangeCell, ...]

    @property
    def title(self) -> str:
        """A heading."""
        return "What changes have gained"

    @property
    def table(self) -> Table:
        """A row for each change, engine and length."""
        header = ["change", "engine", "form", "s", "threads", "before ms", "after ms", "ratio", "95 % interval"]
        header += ["difference", "rounds", "commit"]
        return header, [
            [
                *(cell.what, cell.model, cell.form, f"{cell.seconds:g}", str(cell.threads)),
                *(f"{cell.before.median_ms:.1f}", f"{cell.after.median_ms:.1f}"),
                *(f"{cell.ratio.value:.3f}", f"{cell.ratio.low:.3f} to {cell.ratio.high:.3f}"),
                *(f"{cell.difference:.1e}", str(cell.rounds), cell.commit or ""),
            ]
            for cell in self.cells
        ]

    @property
    def summary(self) -> str:
        """What the figures are."""
        return (
            "Two exports of one checkpoint, without the change and with it, take turns on the same clips. The ratio is "
            "the time before over that after: above 1 the change makes it faster. The difference is of the "
            "embeddings."
        )
