"""What can be exported: what that takes, and what comes out."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from benchmarks.base import Model, Run, Table


class Exported(Model):
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
    # Of a variant: by output, the error against transformers on the golden clips.
    differences: dict[str, float] = Field(default_factory=dict)


class Exports(Model):
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


class FamilyCell(Model):
    """One class of one family in one small configuration."""

    family: str
    architecture: str
    configuration: str  # its name; empty for the plain one
    parameters: int
    outputs: tuple[str, ...]
    alone: float  # the largest error of any output on the golden clips against transformers, each alone
    batch: float  # and in one batch with NaN in the padding
    answers: dict[str, float]  # by task: the largest error of the answers over HTTP; of texts 0 where all are equal
    # Of a variant: by output, the error against transformers on the golden clips.
    differences: dict[str, float] = Field(default_factory=dict)


class Families(Model):
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


def _differences(differences: dict[str, float]) -> str:
    return ", ".join(f"{value:.2g} ({name})" for name, value in differences.items())
