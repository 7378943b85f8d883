"""What engines take in every form, next to transformers and to the machine's own products."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from benchmarks.base import Model, Run, Table
from benchmarks.charts.chart import Bar, Bars, Chart, Lines, Panel, Series
from benchmarks.findings import Finding, Promise
from benchmarks.records.cells import COSINE, EXACT, Cell, Roof, SubjectCells
from benchmarks.stats import Estimate, Tail

# What is promised of these configurations, in times of transformers over those of the engine: of the fastest exact
# form on the average and in the worst cell; of the fastest of the others whose embeddings have at least that cosine.
PROMISED = ("hubert-base", "sew-small", "ast-base")
EXACT_MEAN, EXACT_LEAST = 1.0, 0.95
REDUCED_MEAN, REDUCED_OF = 1.9, {"hubert-base": 2.4}
# And which share of the rate of products an exact form reaches. A cell below it says what takes the rest.
SHARE = 0.9


class Latency(Model):
    """Engines by form, clip length and batch."""

    benchmark: Literal["latency"] = "latency"
    run: Run
    roofs: tuple[Roof, ...]
    subjects: tuple[SubjectCells, ...] = ()

    @property
    def title(self) -> str:
        """A heading."""
        return f"Latency: {self.run.model}, {self.run.threads} thread{'s' * (self.run.threads > 1)}"

    @property
    def table(self) -> Table:
        """A row for each form of each model, over all of its cells."""
        header = ["model", "form", "MB", "cells", "ratio", "95 % interval", "smallest", "at", "of the rate", "least"]
        rows = [
            [
                *(subject.name, note.form, _or_dash(note.bytes and note.bytes / 1e6, ".3g"), str(len(found))),
                *_ratio(subject.mean(note.form)),
                *_least(subject.least(note.form)),
                *(f"{subject.share(note.form).value:.0%}", f"{min(cell.share.value for _, cell in found):.0%}"),
                _or_dash(max((cell.peak_gib for _, cell in found if cell.peak_gib is not None), default=None), ".2f"),
                *(f"{max(cell.error for _, cell in found):.1e}", f"{subject.cosine(note.form):.6f}"),
            ]
            for subject in self.subjects
            for note in subject.forms
            if (found := subject.of(note.form))
        ]
        return [*header, "peak GiB", "error", "cosine"], rows

    @property
    def tables(self) -> tuple[tuple[str, Table], ...]:
        """The cells of each model, and what takes the rest where the rate is not reached."""
        cells = tuple((f"{_subject(each)}, cell by cell", _cells(each)) for each in self.subjects)
        rest = _rest(self.subjects)
        what = f"What takes the rest where less than {SHARE:.0%} of the rate is reached, in runs that were profiled"
        return (*cells, *[(what, rest)] * bool(rest[1]))

    @property
    def summary(self) -> str:
        """The figures that count."""
        return " ".join(
            [
                "The ratio is the time of transformers (eager, fp32, feature extraction included) over that of the "
                "form, geometric mean over the cells: above 1 the form is faster. The rate is that of the fastest "
                "product in the same precision, computed beside it; operations are counted in the fp32 graph.",
                *_verdicts(self.subjects),
                f"Rates: {'; '.join(_roof(roof) for roof in self.roofs)}.",
                *_notes(self.subjects),
                *[_EXPLAINED] * bool(_rest(self.subjects)[1]),
                *["The run was stopped before its end."] * (not all(each.complete for each in self.subjects)),
            ]
        )

    @property
    def findings(self) -> tuple[Finding, ...]:
        """How much faster the forms are, and how near to what the hardware can do."""
        found = []
        for subject in self.subjects:
            for exact in (True, False):
                fastest = subject.fastest(exact=exact)
                if fastest is None:
                    continue
                name, mean = fastest
                what = "exact" if exact else f"cosine {subject.cosine(name):.4f}"
                text = f"{subject.name}, {name} ({what}): {mean} times as fast as transformers eager."
                found.append(Finding("gain" if mean.low > 1 else "loss", text))
                if exact:
                    share = subject.share(name).value
                    text = f"{subject.name}, {name}: {share:.0%} of the rate at which large products are computed."
                    found.append(Finding("limit", text))
        return tuple(found)

    @property
    def promises(self) -> tuple[Promise, ...]:
        """What is promised of some models."""
        return tuple(promise for each in self.subjects if each.name in PROMISED for promise in _promises(each))

    @property
    def charts(self) -> tuple[Chart, ...]:
        """The ratios of all forms, and how near they come to the rate as clips get longer."""
        rows = tuple(
            Bar(form, mean.value, mean.low, mean.high, subject.name)
            for subject in self.subjects
            for form in subject.measured
            if (mean := subject.mean(form)) is not None
        )
        panels = tuple(
            Panel(each.name, "clip, s", "% of the rate of products", series, log_x=True)
            for each in self.subjects
            if (series := _shares(each))
        )
        bars = Bars(
            name="latency",
            title="Times of transformers over those of an engine",
            alt="How often as fast as transformers each form is: " + _said(rows),
            x_label="times as fast as transformers eager, geometric mean over clips and batches",
            rows=rows,
            reference=1.0,
        )
        lines = Lines(
            name="latency-rate",
            title="What share of the machine's rate of products an engine reaches, one clip at a time",
            alt="The share by clip length, a panel for each model",
            panels=panels,
        )
        return (*[bars] * bool(rows), *[lines] * bool(panels))


_EXPLAINED = (
    "What takes the rest: of the time of a cell, what each kind of node takes beyond its operations at the rate of "
    "products; the front end is all before the first convolution. Weights: what it would take to do no more than read "
    "them from memory, which short clips cannot hide behind their products."
)


def _verdicts(subjects: Sequence[SubjectCells]) -> Iterator[str]:
    """Say for each model how its forms compare with transformers."""
    for subject in subjects:
        parts = []
        for form in subject.measured:
            mean, least = subject.mean(form), subject.least(form)
            if mean is None or least is None or not (form.endswith(EXACT) or subject.cosine(form) >= COSINE):
                continue
            cell, ratio = least
            parts.append(f"{form} {mean}, smallest cell {ratio.value:.3f} at {_at(cell)}")
        if parts:
            yield f"{subject.name}: {'; '.join(parts)}."


def _notes(subjects: Sequence[SubjectCells]) -> Iterator[str]:
    """Say what the figures do not."""
    alone = dict.fromkeys(note.form for each in subjects for note in each.forms if note.one_by_one)
    if alone:
        yield f"Clips of a batch run one after the other in {', '.join(alone)}: its scales are those of a whole batch."
    far = dict.fromkeys(
        f"{form} of {each.name}"
        for each in subjects
        for form in each.measured
        if not form.endswith(EXACT) and each.cosine(form) < COSINE
    )
    if far:
        yield f"Not counted above, with a cosine below {COSINE:g}: {', '.join(far)}."
    skipped = dict.fromkeys(f"{note.form}: {note.reason}" for each in subjects for note in each.forms if note.reason)
    if skipped:
        yield f"Not run here: {'; '.join(skipped)}."


def _promises(subject: SubjectCells) -> Iterator[Promise]:
    exact, reduced = subject.fastest(exact=True), subject.fastest(exact=False)
    if exact is not None and (least := subject.least(exact[0])) is not None:
        (name, mean), (_, ratio) = exact, least
        share = min(found.share.value for _, found in subject.of(name))
        yield Promise(
            f"{subject.name}, exact, against transformers eager",
            f"at least {EXACT_MEAN:g} times as fast, and {EXACT_LEAST:g} in every cell",
            f"{mean.value:.3f}, and {ratio.value:.3f} ({name})",
            mean.value >= EXACT_MEAN and ratio.value >= EXACT_LEAST,
        )
        yield Promise(
            f"{subject.name}, exact, of the rate of products",
            f"at least {SHARE:.0%} in every cell",
            f"{share:.0%} ({name})",
            share >= SHARE,
        )
    aim = REDUCED_OF.get(subject.name, REDUCED_MEAN)
    yield Promise(
        f"{subject.name}, cosine of at least {COSINE:g}, against transformers eager",
        f"at least {aim:g} times as fast",
        f"{reduced[1].value:.3f} ({reduced[0]})" if reduced else "no such form",
        reduced is not None and reduced[1].value >= aim,
    )


def _cells(subject: SubjectCells) -> Table:
    """Return a row for each side of each cell."""
    header = ["clip", "batch", "form", "rounds", "median ms", "p95", "p99", "audio s/s", "peak GiB", "ratio"]
    rows = []
    for cell in subject.cells:
        place = [f"{cell.seconds:g} s", str(cell.batch)]
        if cell.transformers is not None:
            times = _times(cell, cell.transformers, cell.transformers_peak_gib)
            rows.append([*place, "transformers", *times, "", "", "", "", ""])
        rows += [
            [
                *(*place, form, *_times(cell, found.time, found.peak_gib), *_ratio(found.ratio)),
                *(f"{found.share.value:.0%}", f"{found.error:.1e}", f"{found.cosine:.6f}"),
            ]
            for form, found in cell.forms.items()
        ]
    return [*header, "95 % interval", "of the rate", "error", "cosine"], rows


def _rest(subjects: Sequence[SubjectCells]) -> Table:
    """Return a row for each cell of a form that says where its time goes."""
    found = [
        ((subject.name, form, f"{cell.seconds:g} s", str(cell.batch), f"{each.share.value:.0%}"), each.rest)
        for subject in subjects
        for cell in subject.cells
        for form, each in cell.forms.items()
        if each.rest is not None and each.share.value < SHARE
    ]
    kinds = list(dict.fromkeys(kind for _, rest in found for kind in rest.kinds))
    rows = [
        [*place, *(_or_dash(rest.kinds.get(kind), ".1%") for kind in kinds), f"{rest.weights:.1%}"]
        for place, rest in found
    ]
    return ["model", "form", "clip", "batch", "of the rate", *kinds, "weights"], rows


def _shares(subject: SubjectCells) -> tuple[Series, ...]:
    """Return a line for each form: shares by clip length, one clip at a time."""
    found = []
    for form in subject.measured:
        points = sorted(
            (cell.seconds, each.share.value, each.share.low, each.share.high)
            for cell, each in subject.of(form)
            if cell.batch == 1
        )
        if len(points) > 1:
            lengths, *shares = zip(*points, strict=True)
            found.append(Series(form, lengths, *(tuple(100.0 * share for share in each) for each in shares)))
    return tuple(found)


def _times(cell: Cell, time: Tail, peak: float | None) -> list[str]:
    rate = cell.seconds * cell.batch / (time.median_ms / 1e3)
    figures = (f"{each:.1f}" for each in (time.median_ms, time.p95_ms, time.p99_ms, rate))
    return [str(cell.rounds), *figures, _or_dash(peak, ".2f")]


def _ratio(ratio: Estimate | None) -> tuple[str, str]:
    return ("-", "-") if ratio is None else (f"{ratio.value:.3f}", f"{ratio.low:.3f} to {ratio.high:.3f}")


def _least(least: tuple[Cell, Estimate] | None) -> tuple[str, str]:
    return ("-", "-") if least is None else (f"{least[1].value:.3f}", _at(least[0]))


def _at(cell: Cell) -> str:
    return f"{cell.seconds:g} s x {cell.batch}"


def _roof(roof: Roof) -> str:
    m, k, n = roof.shape
    how = ", which this processor emulates" if roof.emulated else ""
    return f"{roof.precision} {roof.operations_per_second / 1e9:.0f} G/s ({roof.library}, {m} x {k} x {n}{how})"


def _subject(subject: SubjectCells) -> str:
    return f"{subject.name} ({subject.parameters / 1e6:.3g} M parameters)"


def _said(rows: Sequence[Bar]) -> str:
    return ", ".join(f"{row.group} {row.label} {row.value:.2f}" for row in rows)


def _or_dash(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
