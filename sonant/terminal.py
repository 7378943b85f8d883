"""What the console command draws."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from engines.verify import Check

if TYPE_CHECKING:
    from server.calibration.decide import Cell, Setting


@contextmanager
def steps() -> Iterator[Callable[[str], None]]:
    """Show the steps of a long task with the time that each took; call what is yielded with the next step's name."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(finished_text="[green]ok"), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:

        def finish() -> None:
            for task in progress.tasks:
                progress.update(task.id, total=1, completed=1)

        def step(name: str) -> None:
            finish()
            progress.add_task(name, total=None)

        yield step
        finish()  # not reached by an exception: the step that failed is not ticked off


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


def print_measured(settings: Sequence[Setting], cells: Sequence[Cell]) -> None:
    """Print the tables of a calibration: threads and workers, and batches by length."""
    table = Table("threads", "workers", "a clip alone", "clips per second", box=None, pad_edge=False)
    for each in settings:
        table.add_row(str(each.threads), str(each.workers), f"{each.alone * 1e3:.1f} ms", f"{each.throughput:.1f}")
    batches = Table("clips of", "in a batch", "time", "per clip, of that alone", box=None, pad_edge=False)
    for cell in sorted(cells, key=lambda cell: (cell.length, cell.count)):
        times = (f"{cell.seconds * 1e3:.1f} ms", f"{cell.relative:.2f}")
        batches.add_row(f"{cell.length:g} s", str(cell.count), *times)
    for each_table in (table, batches):
        Console().print(each_table)
        Console().print()
