"""What `sonant bench offline` writes."""

from __future__ import annotations

from typing import Literal

from benchmarks.base import Model, Run, Table
from benchmarks.findings import Promise
from benchmarks.stats import Estimate

SHARE = 0.95  # promised, of the engine's own limit


class OfflineCell(Model):
    """One engine."""

    model: str
    task: str
    parameters: int
    files: int
    audio_seconds: float
    rounds: int
    command: float  # seconds of audio for each second, as the others; without its start
    alone: float  # the engine, one clip after the other
    batched: float  # sorted by length into batches
    ratio: Estimate  # the command / the faster of the two
    start_seconds: float  # from when the process is started to when the engine is loaded, and its end
    command_cpu_seconds: float  # of one round, its start included
    engine_cpu_seconds: float  # of one round of the faster of the two


class Offline(Model):
    """The command line over many files against the engine alone."""

    benchmark: Literal["offline"] = "offline"
    run: Run
    lengths: tuple[float, float]
    file_format: str
    batch_seconds: float
    workers: int  # batches at a time, of the command and of the engine alone
    cells: tuple[OfflineCell, ...]

    @property
    def title(self) -> str:
        """A heading."""
        threads = f"{self.run.threads} thread{'s' * (self.run.threads > 1)}"
        at_a_time = f", {self.workers} batches at a time" if self.workers > 1 else ""
        return f"The command line over many files, {threads}{at_a_time}"

    @property
    def table(self) -> Table:
        """A row for each engine."""
        header = ["engine", "command", "M params", "files", "audio s", "rounds", "command s/s", "alone", "batched"]
        header += ["ratio", "95 % interval", "start s", "command CPU s", "engine CPU s"]
        rows = [
            [
                *(cell.model, cell.task, f"{cell.parameters / 1e6:.3g}", str(cell.files), f"{cell.audio_seconds:.0f}"),
                *(str(cell.rounds), *(f"{rate:.1f}" for rate in (cell.command, cell.alone, cell.batched))),
                *(f"{cell.ratio.value:.3f}", f"{cell.ratio.low:.3f} to {cell.ratio.high:.3f}"),
                *(f"{value:.1f}" for value in (cell.start_seconds, cell.command_cpu_seconds, cell.engine_cpu_seconds)),
            ]
            for cell in self.cells
        ]
        return header, rows

    @property
    def summary(self) -> str:
        """The figures that count."""
        missed = [cell.model for cell in self.cells if cell.ratio.value < SHARE]
        return (
            f"`sonant` as a process over {self.file_format} files of {self.lengths[0]:g} to {self.lengths[1]:g} s, "
            "against the same engine in this process on the same clips, decoded before: alone, and by length in "
            f"batches of {self.batch_seconds:g} s. All are seconds of audio for each second. The command is counted "
            "from when its engine is loaded to when its last result is written: it finds out lengths, reads, decodes, "
            "batches, makes results and writes them. Its start (imports, loading and verifying the engine) and its end "
            f"stand apart. Promised is a ratio of at least {SHARE:g}: "
            f"{'reached' if not missed else 'missed by ' + ', '.join(missed)}. CPU seconds are of one round."
        )

    @property
    def promises(self) -> tuple[Promise, ...]:
        """How near the command comes to its engine."""
        return tuple(
            Promise(
                f"{cell.model}: `sonant {cell.task}` over {cell.files} files, over the engine alone",
                f"at least {SHARE:g}x",
                str(cell.ratio),
                cell.ratio.value >= SHARE,
            )
            for cell in self.cells
        )
