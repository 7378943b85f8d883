"""What a benchmark writes and the report reads: one JSON file for each run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from benchmarks.machine import Machine
from benchmarks.stats import Estimate, Timing

Table = tuple[list[str], list[list[str]]]  # header and rows, as the terminal and the report show them
PROMISE = 1.1  # N layers take at most this many times (front end + N / L of the encoder)


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Run(_Model):
    """What every record says of its run."""

    model: str  # the name of a recipe, or the checkpoint's name
    parameters: int
    threads: int
    seed: int
    date: str  # UTC, ISO 8601
    commit: str | None
    machine: Machine
    versions: dict[str, str]


class LatencyCell(_Model):
    """One clip length at one batch size."""

    seconds: float
    batch: int
    pairs: int
    sonant: Timing
    transformers: Timing
    ratio: Estimate  # transformers / sonant: above 1 where the engine is faster
    error: float  # of the embeddings, against transformers


class Latency(_Model):
    """An engine against transformers eager."""

    benchmark: Literal["latency"] = "latency"
    run: Run
    attention: str  # what transformers chose
    cells: tuple[LatencyCell, ...]
    geometric_mean: Estimate

    @property
    def title(self) -> str:
        """A heading."""
        return f"Latency: {_subject(self.run)}"

    @property
    def table(self) -> Table:
        """A row for each cell."""
        header = ["clip", "batch", "pairs", "sonant ms", "p95", "transformers ms", "p95"]
        rows = [
            [
                *(f"{cell.seconds:g} s", str(cell.batch), str(cell.pairs)),
                *_timing(cell.sonant),
                *_timing(cell.transformers),
                *_ratio(cell.ratio),
                f"{cell.error:.1e}",
            ]
            for cell in self.cells
        ]
        return [*header, "ratio", "95 % interval", "error"], rows

    @property
    def summary(self) -> str:
        """The figures that count."""
        least = min(self.cells, key=lambda cell: cell.ratio.value)
        return (
            "The ratio is the time of transformers over that of the engine: above 1 the engine is faster. "
            f"Geometric mean {_interval(self.geometric_mean)}; smallest cell {_interval(least.ratio)} at "
            f"{least.seconds:g} s, batch {least.batch}. Largest error of the embeddings: "
            f"{max(cell.error for cell in self.cells):.1e}. Attention in transformers: {self.attention}."
        )


class LayersCell(_Model):
    """The graph that stops after so many layers."""

    layers: int
    time: Timing
    ideal_ms: float
    ratio: Estimate  # measured / ideal
    error: float  # of the hidden state, against the full graph


class Layers(_Model):
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
            f"{_interval(worst.ratio)} at {worst.layers} of {self.num_layers} layers; promised is at most {PROMISE:g}. "
            f"{self.rounds} rounds."
        )


class Exported(_Model):
    """One configuration, exported, verified and served once."""

    model: str
    like: str  # the published checkpoint whose configuration it has
    architecture: str
    parameters: int
    export_seconds: float
    export_peak_gib: float
    verify_seconds: float
    engine_bytes: int
    error: float  # the largest of any output against transformers
    ready_seconds: float  # from the server's start until the engine is loaded and verified
    request_seconds: float  # one clip
    serve_peak_gib: float
    differences: dict[str, float] = {}  # of a variant: by output, the error against transformers on the golden clips


class Exports(_Model):
    """What it takes to export and to serve."""

    benchmark: Literal["exports"] = "exports"
    run: Run
    seconds: float  # of the clip that was served
    cells: tuple[Exported, ...]

    @property
    def title(self) -> str:
        """A heading."""
        return f"Exports of true size, {self.run.threads} thread{'s' * (self.run.threads > 1)} when serving"

    @property
    def table(self) -> Table:
        """A row for each configuration."""
        header = ["model", "class", "M parameters", "export s", "peak GiB", "engine MB", "error", "ready s"]
        rows = [
            [
                *(cell.model, cell.architecture, f"{cell.parameters / 1e6:.1f}"),
                *(f"{cell.export_seconds:.0f}", f"{cell.export_peak_gib:.1f}", f"{cell.engine_bytes / 1e6:.0f}"),
                *(f"{cell.error:.1e}", f"{cell.ready_seconds:.1f}"),
                *(f"{cell.request_seconds:.2f}", f"{cell.serve_peak_gib:.1f}"),
            ]
            for cell in self.cells
        ]
        return [*header, f"{self.seconds:g} s clip, s", "serving peak GiB"], rows

    @property
    def summary(self) -> str:
        """The figures that count."""
        largest = max(self.cells, key=lambda cell: cell.export_peak_gib)
        configurations = "; ".join(f"{cell.model} as {cell.like}" for cell in self.cells)
        variants = "".join(
            f" {cell.model} is another model: it differs from transformers by {_differences(cell.differences)}."
            for cell in self.cells
            if cell.differences
        )
        return (
            f"Configurations: {configurations}; the weights are random. The error is the largest of any output against "
            f"transformers. Largest peak memory of an export: {largest.export_peak_gib:.1f} GiB, of {largest.model}."
            f"{variants}"
        )


class FamilyCell(_Model):
    """One class of one family in one small configuration."""

    family: str
    architecture: str
    configuration: str  # its name; empty for the plain one
    parameters: int
    outputs: tuple[str, ...]
    alone: float  # the largest error of any output on the golden clips against transformers, each alone
    batch: float  # and in one batch with NaN in the padding
    answers: dict[str, float]  # by task: the largest error of the answers over HTTP; of texts 0 where all are equal
    differences: dict[str, float] = {}  # of a variant: by output, the error against transformers on the golden clips


class Families(_Model):
    """Which classes were exported, verified and asked over HTTP."""

    benchmark: Literal["families"] = "families"
    run: Run
    cells: tuple[FamilyCell, ...]

    @property
    def title(self) -> str:
        """A heading."""
        return "Families and tasks"

    @property
    def table(self) -> Table:
        """A row for each class and configuration."""
        header = ["family", "class", "configuration", "encode", "transcribe", "classify", "alone", "batch"]
        return header, [
            [
                *(cell.family, cell.architecture, cell.configuration or "plain"),
                *(self._answer(cell, task) for task in ("encode", "transcribe", "classify")),
                *(f"{cell.alone:.1e}", f"{cell.batch:.1e}"),
            ]
            for cell in self.cells
        ]

    @staticmethod
    def _answer(cell: FamilyCell, task: str) -> str:
        if task not in cell.answers:
            return "-"
        return "equal" if task == "transcribe" and cell.answers[task] == 0 else f"{cell.answers[task]:.1e}"

    @property
    def summary(self) -> str:
        """The figures that count."""
        worst = max(max(cell.alone, cell.batch, *cell.answers.values()) for cell in self.cells)
        variants = "".join(
            f" {cell.architecture}, {cell.configuration}, is another model, and compared with itself in transformers' "
            f"modules: from the checkpoint it differs by {_differences(cell.differences)}."
            for cell in self.cells
            if cell.differences
        )
        return (
            "Each was exported from a small checkpoint with random weights, verified, served and asked over HTTP with "
            "three clips of unequal lengths in one request. Tasks: the largest error of the answers against "
            "transformers on each clip alone; texts are equal to the letter. Alone and batch: the largest error of any "
            "output on the golden clips, each alone and in one batch with NaN in the padding. "
            f"Largest of all: {worst:.1e}.{variants}"
        )


Record = Latency | Layers | Exports | Families
_ADAPTER: TypeAdapter[Record] = TypeAdapter(Annotated[Record, Field(discriminator="benchmark")])


def write(record: Record, path: Path) -> None:
    """Write `record` as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")


def read(path: Path) -> Record:
    """Read a record; pydantic's ValidationError where the file is none."""
    return _ADAPTER.validate_json(path.read_bytes())


def _subject(run: Run) -> str:
    return f"{run.model} ({run.parameters / 1e6:.3g} M parameters), {run.threads} thread{'s' * (run.threads > 1)}"


def _differences(differences: dict[str, float]) -> str:
    return ", ".join(f"{value:.2g} ({name})" for name, value in differences.items())


def _timing(timing: Timing) -> tuple[str, str]:
    return f"{timing.median_ms:.1f}", f"{timing.p95_ms:.1f}"


def _ratio(ratio: Estimate) -> tuple[str, str]:
    return f"{ratio.value:.3f}", f"{ratio.low:.3f} to {ratio.high:.3f}"


def _interval(ratio: Estimate) -> str:
    return f"{ratio.value:.3f} ({ratio.low:.3f} to {ratio.high:.3f})"
