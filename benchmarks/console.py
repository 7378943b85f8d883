"""What the benchmark commands share: their options, their progress bar, what they show and write."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks import machine, models
from benchmarks.base import Detailed, Run
from benchmarks.recipes import RECIPES
from benchmarks.record import Record, write
from engines.errors import EngineError
from engines.verify import POLICY
from export.errors import ExportError
from sonant.terminal import steps

BOUND = POLICY["fp32"]  # beyond this error a result is wrong, and its time tells nothing
MIN_WIDTH = 200  # columns that the tables need: in a narrower terminal a line breaks, but no figure is cut short


class WrongResultError(RuntimeError):
    """Two sides that must compute the same do not."""


def check(what: str, error: float) -> float:
    """Return `error`; raise WrongResultError where it is out of bounds."""
    if not error <= BOUND:
        raise WrongResultError(f"{what}: error {error:.1e} (bound {BOUND:.0e}); its time would tell nothing")
    return error


def options(name: str, description: str, seconds: float) -> argparse.ArgumentParser:
    """Return a parser with the options of the benchmark of this name; `seconds` is the default of --seconds."""
    parser = argparse.ArgumentParser(
        prog=f"sonant bench {name}",
        description=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    subject = parser.add_mutually_exclusive_group()
    subject.add_argument(
        "--model", choices=sorted(RECIPES), default="hubert-base", help="true size, with random weights"
    )
    subject.add_argument("--checkpoint", help="a checkpoint instead: a folder or a hub id")
    parser.add_argument("--threads", type=positive, default=1, help="threads of every side")
    parser.add_argument("--seconds", type=float, default=seconds, help="time to spend on each cell")
    parser.add_argument("--rounds", type=positive, default=7, help="rounds of each cell, at least")
    parser.add_argument("--seed", type=int, default=0, help="of the clips and of the bootstrap")
    parser.add_argument("--cache", type=Path, default=models.default_cache(), help="where checkpoints and engines stay")
    parser.add_argument("--output", type=Path, help="write the result as JSON, such as benchmarks/results/NAME.json")
    parser.add_argument("--quick", action="store_true", help="a tiny model and a few rounds: shows that it runs")
    return parser


def parse(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None, quick: Mapping[str, object]
) -> argparse.Namespace:
    """Parse `argv`; with --quick, `quick` stands in for the defaults."""
    arguments = parser.parse_args(argv)
    if arguments.quick:
        parser.set_defaults(model="tiny", seconds=0.0, rounds=3, **quick)
        arguments = parser.parse_args(argv)
    return arguments


def positive(text: str) -> int:
    """Parse a whole number above 0."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number


def numbers(kind: Callable[[str], Any]) -> Callable[[str], tuple[Any, ...]]:
    """Return what parses several values with commas between them."""

    def several(text: str) -> tuple[Any, ...]:
        return tuple(kind(part) for part in text.split(","))

    several.__name__ = "list"  # argparse names it where the text is not one
    return several


def prepare(arguments: argparse.Namespace, layers: Sequence[int] | None = ()) -> tuple[models.Subject, Run]:
    """Make or find what is measured, set torch's threads, and describe the run."""
    host = machine.describe()  # before the export, whose load is our own
    with steps() as progress:
        subject = models.prepare(arguments.model, arguments.checkpoint, layers, arguments.cache, progress)
    torch.set_num_threads(arguments.threads)
    return subject, describe_run(subject.name, subject.manifest.parameters, arguments, host)


def describe_run(model: str, parameters: int, arguments: argparse.Namespace, host: machine.Machine) -> Run:
    """Say what was measured, where and with what."""
    return Run(
        model=model,
        parameters=parameters,
        threads=arguments.threads,
        seed=arguments.seed,
        date=datetime.now(UTC).date().isoformat(),
        commit=machine.commit(),
        machine=host,
        versions=machine.versions(),
    )


class Doing:
    """Shows how far the measurement of one cell has come; it is the cell's turn when this is made."""

    def __init__(self, show: Callable[[str, float], None], label: str, cells_done: int = 0) -> None:
        self.label = label
        self._show, self._cells_done = show, cells_done
        show(label, cells_done)

    def tick(self, rounds: int, share: float) -> None:
        """Take note of the rounds that are done, which are so much of the cell."""
        self._show(f"{self.label}: {rounds} rounds", self._cells_done + share)


@contextmanager
def progress_bar(cells: int) -> Iterator[Callable[[str, float], None]]:
    """Show a bar over `cells` on stderr; call what is yielded with what is going on and how many cells are done."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    # A thread that refreshes the bar would take its share of what is being timed.
    with Progress(*columns, console=Console(stderr=True), transient=True, auto_refresh=False) as progress:
        task = progress.add_task("", total=cells)
        yield lambda doing, done: progress.update(task, description=doing, completed=done, refresh=True)


def main(measure: Callable[[argparse.Namespace], Record], arguments: argparse.Namespace) -> int:
    """Run a benchmark, show what it found and write it where --output says; return the exit status."""
    try:
        record = measure(arguments)
    except (WrongResultError, EngineError, ExportError, ValueError) as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 1
    show(record)
    if arguments.output:
        write(record, arguments.output)
        print(f"Wrote {arguments.output}", file=sys.stderr)
    return 0


def show(record: Record) -> None:
    """Print the tables of `record` and what follows from them."""
    console = Console(width=max(MIN_WIDTH, Console().width))
    more = record.tables if isinstance(record, Detailed) else ()
    for title, (header, rows) in ((record.title, record.table), *more):
        table = Table(title=title, title_justify="left")
        for name in header:
            table.add_column(name, justify="right", no_wrap=True)
        for row in rows:
            table.add_row(*row)
        console.print(table)
    console.print(record.summary, highlight=False, soft_wrap=True)
