"""What the choice of batches would do to a server under load, simulated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from benchmarks.base import Model, Run, Table
from benchmarks.charts.chart import Lines, Panel, Series


class PolicyCell(Model):
    """One way to form batches, with one budget."""

    policy: str
    budget: float  # padded seconds of audio in a batch
    clips: float  # in a batch, on average
    padding: float  # of all that the engine ran
    goodput: float  # seconds of audio, without padding, for each second
    longest_wait: float  # of any clip: batches before its own, over the clips that were before it


class Policy(Model):
    """How clips are put into batches, on an engine that only costs time."""

    benchmark: Literal["policy"] = "policy"
    run: Run
    fixed_ms: float
    ms_per_second: float
    lengths: tuple[float, float]
    waiting: int
    max_padding: float
    cells: tuple[PolicyCell, ...]

    @property
    def title(self) -> str:
        """A heading."""
        return f"Batches, {self.waiting} clips waiting"

    @property
    def table(self) -> Table:
        """A row for each budget and policy."""
        header = ["budget", "policy", "clips in a batch", "padded share", "goodput, s/s", "longest wait"]
        return header, [
            [
                *(f"{cell.budget:g} s", cell.policy, f"{cell.clips:.2f}", f"{100 * cell.padding:.1f} %"),
                *(f"{cell.goodput:.0f}", f"{cell.longest_wait:.2f}"),
            ]
            for cell in self.cells
        ]

    @property
    def summary(self) -> str:
        """The figures that count."""
        low, high = self.lengths
        return (
            f"The server's scheduler on an engine whose batches cost {self.fixed_ms:g} ms and {self.ms_per_second:g} "
            f"ms for each padded second; clips of {low:g} to {high:g} s, at most {100 * self.max_padding:g} % padding "
            "in a batch. The longest wait is that of any clip, in batches, over the clips that were before it: the "
            "oldest always goes first, so it is never above 1."
        )

    @property
    def charts(self) -> tuple[Lines, ...]:
        """Padding, batches and goodput over the budget."""
        panels = (
            ("padded share, %", lambda cell: 100 * cell.padding),
            ("clips in a batch", lambda cell: cell.clips),
            ("goodput, seconds of audio per second", lambda cell: cell.goodput),
        )
        return (
            Lines(
                "policy",
                "How batches are formed",
                "Padded share, clips in a batch and goodput over the budget of a batch, of each policy.",
                tuple(Panel("", "budget of a batch, s", name, self._lines(of), log_x=True) for name, of in panels),
            ),
        )

    def _lines(self, value: Callable[[PolicyCell], float]) -> tuple[Series, ...]:
        cells = {policy: [cell for cell in self.cells if cell.policy == policy] for policy in self._policies}
        return tuple(
            Series(policy, tuple(cell.budget for cell in found), tuple(value(cell) for cell in found))
            for policy, found in cells.items()
        )

    @property
    def _policies(self) -> list[str]:
        return list(dict.fromkeys(cell.policy for cell in self.cells))
