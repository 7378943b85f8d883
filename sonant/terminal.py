"""What the console command draws."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from engines.verify import Check

if TYPE_CHECKING:
    from server.calibration import FormTime
    from server.calibration.decide import Cell, Setting
    from server.calibration.measure import Measured
    from sonant.evaluation.evaluate import Evaluated


@contextmanager
def steps() -> Iterator[Callable[[str], None]]:
    """Show the steps of a long task with the time that each took; call what is yielded with the next step's name."""
    with _progress() as (step, _):
        yield step


@contextmanager
def steps_and_phases() -> Iterator[tuple[Callable[[str], None], Phases]]:
    """Show the steps of a long task as `steps` does, and how far the phases of each are."""
    with _progress(TaskProgressColumn()) as (step, progress):
        yield step, Phases(progress)


@contextmanager
def _progress(*columns: ProgressColumn) -> Iterator[tuple[Callable[[str], None], Progress]]:
    console = Console(stderr=True)
    first = (SpinnerColumn(finished_text="[green]ok"), TextColumn("{task.description}"))
    with Progress(*first, *columns, TimeElapsedColumn(), console=console) as progress:

        def finish() -> None:
            for task in progress.tasks:
                progress.update(task.id, total=1, completed=1)

        def step(name: str) -> None:
            finish()
            progress.add_task(name, total=None)

        yield step, progress
        finish()  # not reached by an exception: the step that failed is not ticked off


class Phases:
    """The phases of the step that is under way, each with how much of it is done. Any thread may call it."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def begin(self, phase: str, parent: str | None, steps: int) -> None:
        """Show a phase of so many steps; one that is part of another is indented."""
        self._tasks[phase] = self._progress.add_task(f"{'  ' if parent is None else '    '}{phase}", total=steps)

    def advance(self, phase: str, steps: int) -> None:
        """Show that so many steps of a phase are done."""
        if phase in self._tasks:
            self._progress.update(self._tasks[phase], completed=steps)

    def end(self, phase: str) -> None:
        """Show a phase no more."""
        if phase in self._tasks:
            self._progress.remove_task(self._tasks.pop(phase))


def print_checks(checks: Sequence[Check]) -> None:
    """Print the table of errors of a verification: of each clip alone, and in one padded batch."""
    table = Table(box=None, pad_edge=False)  # 80 columns hold it, in a terminal and in a pipe
    for name in ("graph", "output"):
        table.add_column(name, overflow="fold")
    for name in ("alone", "in a batch", "bound", ""):
        table.add_column(name, no_wrap=True)
    for check in checks:
        verdict = "[green]ok" if check.ok else "[red]OUT OF BOUNDS"
        table.add_row(
            check.graph, check.output, f"{check.alone:.1e}", f"{check.batch:.1e}", f"{check.bound:.1e}", verdict
        )
    Console().print(table)


def print_measured(measured: Measured) -> None:
    """Print the tables of a calibration: the race of the forms; of the one chosen, threads, workers and batches."""
    tables = [*_raced(measured.calibration.forms), *_measured(measured.settings, measured.cells)]
    for table in tables:
        Console().print(table)
        Console().print()


def _raced(forms: Sequence[FormTime]) -> Iterator[Table]:
    if not forms:
        return
    table = Table("form", "a sentence", "10 s", "", box=None, pad_edge=False)
    for each in forms:
        times = (each.sentence_seconds, each.long_seconds)
        shown = ["-" if each.reason else f"{seconds * 1e3:.1f} ms" for seconds in times]
        table.add_row(each.form, *shown, each.reason or "")
    yield table


def _measured(settings: Sequence[Setting], cells: Sequence[Cell]) -> Iterator[Table]:
    table = Table("threads", "workers", "a clip alone", "clips per second", box=None, pad_edge=False)
    for each in settings:
        table.add_row(str(each.threads), str(each.workers), f"{each.alone * 1e3:.1f} ms", f"{each.throughput:.1f}")
    batches = Table("clips of", "in a batch", "time", "per clip, of that alone", box=None, pad_edge=False)
    for cell in sorted(cells, key=lambda cell: (cell.length, cell.count)):
        times = (f"{cell.seconds * 1e3:.1f} ms", f"{cell.relative:.2f}")
        batches.add_row(f"{cell.length:g} s", str(cell.count), *times)
    yield from (table, batches)


def print_evaluated(evaluated: Sequence[Evaluated]) -> None:
    """Print the table of an evaluation, and why forms are not in it."""
    console = Console()
    table = Table("form", "measure", box=None, pad_edge=False)
    for name in ("clips", "fp32", "here", "same answers"):
        table.add_column(name, justify="right")
    for each in evaluated:
        for one in each.measured:
            figures = (f"{share:.2%}" for share in (one.fp32, one.value, one.agreement))
            table.add_row(each.form, one.measure.replace("_", " "), str(one.clips), *figures)
    console.print(table)
    for each in evaluated:
        if each.reason:
            console.print(f"{each.form} is left out: {each.reason}", highlight=False)
