"""What each precision and runtime gains, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from benchmarks.base import Model, Run, Table
from benchmarks.stats import Estimate, Timing
from engines.manifest import Quality

# What the processor must have for the aims to hold, and what these are: times of torch over those of the form, on clips
# of so many seconds, with embeddings of at least that cosine.
AIM_FLAGS = ("avx512_bf16", "avx512_vnni")
AIM_SECONDS, AIM_COSINE = 10.0, 0.999
BEST = "the best form"
AIMS: dict[str, dict[str, float]] = {
    "hubert-base": {"onnxruntime/int8": 1.7, "openvino/bf16": 2.2, BEST: 2.8},
    "ast-base": {"onnxruntime/int8": 1.8, "openvino/bf16": 1.9},
}


class FormTime(Model):
    """A form on clips of one length."""

    time: Timing
    ratio: Estimate  # torch / form: above 1 where the form is faster
    error: float  # of the embeddings, against transformers
    cosine: float


class LengthCell(Model):
    """Clips of one length, one at a time."""

    seconds: float
    rounds: int
    torch: Timing
    forms: dict[str, FormTime]


class FormCell(Model):
    """A form: what it is, and what it says."""

    form: str
    bytes: int | None = None  # of the files that its graphs read; None where it could not be exported
    error: float | None = None  # the largest of any output on the golden clips, against transformers
    cosine: float | None = None  # the least; None where it was not measured
    quality: tuple[Quality, ...] = ()
    reason: str = ""  # why it was not run


class Precision(Model):
    """One model in all forms that there are of it."""

    benchmark: Literal["precision"] = "precision"
    run: Run
    key: str  # what the figures hold for: a run of another does not go on with them
    attention: str = ""  # what transformers chose
    forms: tuple[FormCell, ...] = ()
    lengths: tuple[LengthCell, ...] = ()
    complete: bool = False

    @property
    def title(self) -> str:
        """A heading."""
        size = f"{self.run.parameters / 1e6:.3g} M parameters"
        return f"Precisions: {self.run.model} ({size}), {self.run.threads} thread{'s' * (self.run.threads > 1)}"

    @property
    def table(self) -> Table:
        """A row for torch, and one for each form."""
        measures = list(dict.fromkeys(one.measure for cell in self.forms for one in cell.quality))
        header = ["form", "MB", "error", "cosine", *(f"{cell.seconds:g} s" for cell in self.lengths)]
        times = [f"{cell.torch.median_ms:.1f} ms" for cell in self.lengths]
        rows = [["torch eager fp32", "", "", "", *times, *[""] * len(measures)]]
        rows += [
            [
                *(cell.form, _shown(cell.bytes and cell.bytes / 1e6, ".3g"), _shown(cell.error, ".1e")),
                *(_shown(cell.cosine, ".6f"), *(_time(cell.form, length) for length in self.lengths)),
                *(_quality(cell.quality, measure) for measure in measures),
            ]
            for cell in self.forms
        ]
        return [*header, *(measure.replace("_", " ") for measure in measures)], rows

    @property
    def summary(self) -> str:
        """The figures that count."""
        skipped = "; ".join(f"{cell.form}: {cell.reason}" for cell in self.forms if cell.reason)
        return " ".join(
            [
                "The columns of lengths: how often as fast as torch (transformers, eager, fp32, attention: "
                f"{self.attention}) a clip is encoded, timed in turn in the same run.",
                "Error and cosine: the worst of any output on the golden clips, against transformers.",
                *[_EXPLAINED] * any(cell.quality for cell in self.forms),
                *[f"Not run here: {skipped}."] * bool(skipped),
                *["The run was stopped before its end."] * (not self.complete),
                *self.aims(),
            ]
        )

    def aims(self) -> list[str]:
        """Say which aims are met; or that this processor cannot."""
        aims = AIMS.get(self.run.model)
        cell = next((cell for cell in self.lengths if cell.seconds == AIM_SECONDS), None)
        if aims is None or cell is None:
            return []
        missing = [flag for flag in AIM_FLAGS if flag not in self.run.machine.flags]
        if missing:
            return [f"The aims are of processors with {' and '.join(AIM_FLAGS)}: this one lacks {', '.join(missing)}."]
        close = {form: time.ratio.value for form, time in cell.forms.items() if time.cosine >= AIM_COSINE}
        reached = {**close, BEST: max(close.values(), default=0.0)}
        verdicts = (
            f"{form} {reached[form]:.2f} of {aim:g} ({'met' if reached[form] >= aim else 'MISSED'})"
            if form in reached
            else f"{form} MISSED"
            for form, aim in aims.items()
        )
        return [f"Aims at {AIM_SECONDS:g} s with a cosine of {AIM_COSINE:g}: {', '.join(verdicts)}."]


class Precisions(Model):
    """All models at a glance; made of the others, and never in a file of its own."""

    records: tuple[Precision, ...]

    @property
    def title(self) -> str:
        """A heading."""
        return "Precisions"

    @property
    def run(self) -> Run:
        """Where they were measured: the latest."""
        return max(self.records, key=lambda record: record.run.date).run

    @property
    def table(self) -> Table:
        """A row for each model, a column for each form."""
        names = dict.fromkeys(cell.form for record in self.records for cell in record.forms if not cell.reason)
        rows = []
        for record in self.records:
            chosen = min(record.lengths, key=lambda cell: abs(cell.seconds - AIM_SECONDS))  # some take no longer clips
            rows.append(
                [
                    *(record.run.model, f"{chosen.seconds:g} s", f"{chosen.torch.median_ms:.1f} ms"),
                    *(_glance(record, chosen, name) for name in names),
                ]
            )
        return ["model", "clip", "torch", *names], rows

    @property
    def summary(self) -> str:
        """What the cells are."""
        return (
            "How often as fast as torch (transformers, eager, fp32) a clip is encoded, on the same number of threads; "
            "of what is not exact, the cosine between the embeddings of both and, for the models of the demo, which "
            "are trained, on how many held-out clips the answer is that of fp32. Sizes, errors, other lengths, and "
            "what could not be run, are in [benchmarks/README.md](benchmarks/README.md)."
        )


_EXPLAINED = (
    "Held-out clips: the measure, and on how many of the clips the answer is that of fp32; a form without them has no "
    "graph for the task."
)


def _time(form: str, cell: LengthCell) -> str:
    found = cell.forms.get(form)
    return f"{found.ratio.value:.2f}" if found else "-"


def _glance(record: Precision, cell: LengthCell, name: str) -> str:
    found = cell.forms.get(name)
    if found is None:
        return "-"
    if name.endswith("/fp32"):
        return f"{found.ratio.value:.2f}"
    same = [one.agreement for form in record.forms if form.form == name for one in form.quality]
    return f"{found.ratio.value:.2f}, {found.cosine:.4f}{f', {min(same):.1%}' if same else ''}"


def _quality(quality: Sequence[Quality], measure: str) -> str:
    found = next((one for one in quality if one.measure == measure), None)
    return f"{found.value:.2%}, {found.agreement:.1%} same" if found else "-"


def _shown(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
