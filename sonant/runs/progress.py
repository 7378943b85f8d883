"""How far a run has come, on standard error: a bar in a terminal, else now and then a line."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from server.logs import escape
from sonant.runs.errors import FileError
from sonant.runs.inputs import Input
from sonant.runs.outputs import shown

# Between two lines where there is no terminal: a log of an hour has a hundred.
LINE_SECONDS = 30.0
# Of the bar, for each second: each takes about 2 ms of the time in which the engine's threads are fed.
REFRESHES = 4


@dataclass
class Totals:
    """Of a run: how many files, and the audio of those that are done, in seconds."""

    files: int
    before: int = 0  # done by an earlier run
    done: int = 0
    failed: int = 0
    audio_seconds: float = 0.0
    run_seconds: float = 0.0  # since the first file was taken, after the engine was loaded
    start_seconds: float = 0.0  # before that, since the process began its work

    def __str__(self) -> str:
        """Return the line that ends a run."""
        parts = [f"{self.done} of {self.files} files done"]
        parts += [f"{self.before} were done before"] * bool(self.before)
        parts += [f"{self.failed} failed"] * bool(self.failed)
        rate = f"{self.audio_seconds / self.run_seconds:.4g}" if self.run_seconds else "0"
        return (
            f"{', '.join(parts)}; {self.audio_seconds:.1f} s of audio in {self.run_seconds:.3f} s: {rate} s/s; "
            f"started in {self.start_seconds:.3f} s"
        )


class Display(Protocol):
    """Shows the progress of a run, between `__enter__` and `__exit__`."""

    def __enter__(self) -> Self:
        """Begin to show."""
        ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Show nothing more."""
        ...

    def show(self, totals: Totals, left: float) -> None:
        """Show what is done; `left` are the seconds that are left, NaN where nobody knows."""
        ...

    def say(self, text: str) -> None:
        """Say something beside it."""
        ...


class Bar:
    """In a terminal."""

    def __init__(self, files: int) -> None:
        columns = (
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TextColumn("{task.fields[left]}"),
        )
        self._progress = Progress(*columns, console=Console(stderr=True), transient=True, refresh_per_second=REFRESHES)
        self._task = self._progress.add_task("", total=files, rate="", left="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._progress.stop()

    def show(self, totals: Totals, left: float) -> None:
        """See Display."""
        self._progress.update(
            self._task,
            completed=totals.before + totals.done + totals.failed,
            rate=_rate(totals),
            left=_left(left),
        )

    def say(self, text: str) -> None:
        """See Display."""
        self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)


class Plain:
    """In a log. `quiet`: only what goes wrong, and how it ended."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._shown = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        pass

    def show(self, totals: Totals, left: float) -> None:
        """See Display."""
        if self._quiet or time.monotonic() - self._shown < LINE_SECONDS:
            return
        self._shown = time.monotonic()
        done = totals.before + totals.done + totals.failed
        self.say(f"sonant: {done} of {totals.files} files, {_rate(totals)} {_left(left)}")

    def say(self, text: str) -> None:
        """See Display."""
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def display(files: int, *, quiet: bool) -> Display:
    """Return what shows a run of so many files."""
    return Bar(files) if sys.stderr.isatty() and not quiet else Plain(quiet=quiet)


def failed(each: Input, error: FileError) -> str:
    """Return the line that tells of a file that failed."""
    return escape(f"sonant: {shown(each.path)}: {error.message} ({error.code})")  # a name may move the cursor


def _rate(totals: Totals) -> str:
    return f"{totals.audio_seconds / totals.run_seconds:.1f} s/s" if totals.run_seconds else ""


def _left(seconds: float) -> str:
    if not 0 <= seconds < float("inf"):
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02} left"
