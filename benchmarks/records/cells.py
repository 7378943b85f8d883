"""A model's engines by form, clip length and batch: what was measured, and what follows from it."""

from __future__ import annotations

from benchmarks.base import Model
from benchmarks.stats import Estimate, Tail, mean_of
from engines.manifest import Precision

EXACT = "/fp32"  # how the names of forms end that compute what transformers does
COSINE = 0.999  # of embeddings that count as near enough


class Roof(Model):
    """The fastest product [m, k] x [k, n] in a precision, and what it reached before the cells were measured."""

    precision: Precision
    library: str
    shape: tuple[int, int, int]
    operations_per_second: float
    emulated: bool  # the processor has no instructions for it


class Rest(Model):
    """What takes the time of a graph, in shares of it, as found in runs of their own that were profiled."""

    # What each kind of node takes beyond its operations at the rate of products; they add up to what lacks from it.
    kinds: dict[str, float]
    # What it would take to do no more than read the weights from memory, as often as they are: products wait for that.
    weights: float


class FormCell(Model):
    """A form in one cell."""

    time: Tail
    ratio: Estimate | None  # transformers / form: above 1 where the form is faster; None without transformers
    share: Estimate  # of what a product in its precision reaches, beside it
    error: float  # of the embeddings, against transformers
    cosine: float
    peak_gib: float | None  # of a process that does nothing else
    rest: Rest | None = None


class Cell(Model):
    """One clip length at one batch size."""

    seconds: float
    batch: int
    rounds: int
    operations: int
    transformers: Tail | None
    transformers_peak_gib: float | None
    forms: dict[str, FormCell]


class FormNote(Model):
    """What there is to know of a form beside its times."""

    form: str
    bytes: int | None = None  # of the files that its graphs read
    one_by_one: bool = False  # the clips of a batch run one after the other
    reason: str = ""  # why it was not run


class SubjectCells(Model):
    """One model in all cells."""

    name: str
    parameters: int
    key: str  # what the figures hold for: a run of another does not go on with them
    attention: str | None  # what transformers chose
    forms: tuple[FormNote, ...]
    cells: tuple[Cell, ...] = ()
    complete: bool = False

    @property
    def measured(self) -> list[str]:
        """The forms that were."""
        return list(dict.fromkeys(form for cell in self.cells for form in cell.forms))

    def of(self, form: str) -> list[tuple[Cell, FormCell]]:
        """Return the cells of a form."""
        return [(cell, cell.forms[form]) for cell in self.cells if form in cell.forms]

    def mean(self, form: str) -> Estimate | None:
        """Return the geometric mean of its ratios to transformers."""
        ratios = [found.ratio for _, found in self.of(form) if found.ratio is not None]
        return mean_of(ratios) if ratios else None

    def least(self, form: str) -> tuple[Cell, Estimate] | None:
        """Return the cell with the smallest of its ratios."""
        ratios = [(cell, found.ratio) for cell, found in self.of(form) if found.ratio is not None]
        return min(ratios, key=lambda pair: pair[1].value) if ratios else None

    def share(self, form: str) -> Estimate:
        """Return the geometric mean of its shares of the rate of products."""
        return mean_of([found.share for _, found in self.of(form)])

    def cosine(self, form: str) -> float:
        """Return the least cosine of its embeddings."""
        return min(found.cosine for _, found in self.of(form))

    def fastest(self, *, exact: bool) -> tuple[str, Estimate] | None:
        """Return the form with the largest mean, of the exact ones or of the others that are near enough."""
        fit = [name for name in self.measured if name.endswith(EXACT) == exact]
        near = [name for name in fit if exact or self.cosine(name) >= COSINE]
        means = [(name, mean) for name in near if (mean := self.mean(name)) is not None]
        return max(means, key=lambda pair: pair[1].value, default=None)
