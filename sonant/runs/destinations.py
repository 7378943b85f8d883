"""What --output means: lines of JSON, a file for each input, one file of arrays, or standard output."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

from sonant.runs.archive import Archive
from sonant.runs.arrays import WRITE, ArrayFormat
from sonant.runs.errors import FileError, UsageError
from sonant.runs.inputs import Input, stems
from sonant.runs.outcomes import Item, Outcome
from sonant.runs.outputs import ERRORS_NAME, Files, Lines, Output, line, resumed
from sonant.runs.state import claimed

Place = Literal["standard output", "beside", "lines", "file", "archive", "folder"]

LINES = (".jsonl", ".ndjson")
# A name that ends with one of these is a file's; any other is a folder's.
FILES = (".txt", ".srt", ".vtt", ".json", ".npz", ".safetensors")
STATE_NAME = ".sonant.json"


@dataclass(frozen=True)
class Form:
    """How an outcome is written as a file: what its name ends with, and its contents; `arrays` of one of arrays.

    `entry` is what a line of JSON says of it; None where only text was asked for.
    """

    suffix: str
    write: Callable[[BinaryIO, Outcome], None]
    entry: Callable[[Outcome], Item] | None = None
    arrays: ArrayFormat | None = None

    @classmethod
    def of_arrays(cls, kind: ArrayFormat, entry: Callable[[Outcome], Item]) -> Form:
        """Return the form of arrays."""
        return cls(f".{kind}", WRITE[kind], entry, kind)

    @classmethod
    def of_json(cls, entry: Callable[[Outcome], Item]) -> Form:
        """Return that of JSON."""

        def write(file: BinaryIO, outcome: Outcome) -> None:
            file.write(line(entry(outcome)))

        return cls(".json", write, entry)

    @classmethod
    def of_text(cls, suffix: str) -> Form:
        """Return that of text."""

        def write(file: BinaryIO, outcome: Outcome) -> None:
            file.write(outcome.text.encode())

        return cls(suffix, write)


@dataclass(frozen=True)
class Wish:
    """What was asked for: `output`, or files `beside` the inputs, or neither; `anew`: also what is done already.

    `is_single`: one file was named, and not what holds files.
    """

    output: Path | None
    beside: bool
    anew: bool
    is_single: bool


def place(wish: Wish, form: Form, inputs: Sequence[Input]) -> Place:
    """Return where outcomes go. Raises UsageError where `inputs` do not fit there."""
    output = wish.output
    if wish.beside:
        if output is not None or any(each.is_standard_input for each in inputs):
            raise UsageError("--beside is for files, and without --output")
        return "beside"
    if output is None:
        if form.entry is None and len(inputs) > 1:
            raise UsageError("text and subtitles of several files need a folder for --output, or --beside")
        return "standard output"
    if output.is_dir() or output.suffix not in (*LINES, *FILES):
        if output.exists() and not output.is_dir():
            raise UsageError(f"{output} is a file: name a folder, or a file such as results.jsonl")
        return "folder"
    if output.suffix in LINES:
        if form.entry is None:
            raise UsageError(f"{output} takes JSON: for text or subtitles name a folder, or --beside")
        return "lines"
    if output.suffix != form.suffix:
        raise UsageError(f"{output} ends otherwise than files of the format asked for, which end with {form.suffix}")
    if wish.is_single:
        return "file"
    if form.arrays is None:
        raise UsageError(f"{output} is one file: for several name a folder, or a file such as results.jsonl")
    return "archive"


@contextmanager
def opened(wish: Wish, form: Form, inputs: Sequence[Input], description: Mapping[str, Any]) -> Iterator[Output]:
    """Give where outcomes go. What was begun with another `description` is not gone on with. Raises UsageError."""
    names = stems(inputs)
    match place(wish, form, inputs), wish.output:
        case "beside", _:
            beside = {each: each.path.parent / (names[each].name + form.suffix) for each in inputs}
            yield Files(beside, form.write, anew=wish.anew)
        case "file", Path() as output:  # it takes no longer than to think about whether it is the same
            yield Files({inputs[0]: output}, form.write, anew=True)
        case "folder", Path() as output:
            targets = {each: output / f"{names[each]}{form.suffix}" for each in inputs}
            is_there = any(target.exists() for target in targets.values())
            with claimed(output / STATE_NAME, output, description, is_there=is_there, anew=wish.anew):
                yield Files(targets, form.write, output / ERRORS_NAME, anew=wish.anew)
        case "lines" | "archive" as where, Path() as output:
            is_there = output.exists() and output.stat().st_size > 0
            state = output.with_name(f".{output.name}{STATE_NAME}")
            with claimed(state, output, description, is_there=is_there, anew=wish.anew):
                yield from _whole(where, output, wish, form, inputs)
        case _:
            yield Lines(sys.stdout.buffer, form.entry) if form.entry else Printed(sys.stdout.buffer, form.write)


def _whole(
    where: Literal["lines", "archive"], output: Path, wish: Wish, form: Form, inputs: Sequence[Input]
) -> Iterator[Output]:
    """Give the one file that all outcomes go to."""
    if where == "archive" and form.arrays:
        yield Archive(output, form.arrays, inputs, anew=wish.anew)
    elif form.entry:
        done = set() if wish.anew else resumed(output)
        try:
            with output.open("wb" if wish.anew else "ab") as file:
                yield Lines(file, form.entry, done)
        finally:
            if output.exists() and not output.stat().st_size:  # nothing came of the run: it had no engine, say
                output.unlink()


class Printed(Lines):
    """The text of one file, on standard output."""

    def __init__(self, file: BinaryIO, write: Callable[[BinaryIO, Outcome], None]) -> None:
        super().__init__(file, lambda outcome: outcome.item)
        self._print = write

    def write(self, each: Input, outcome: Outcome) -> None:
        """See Output."""
        self._print(self._file, outcome)
        self._file.flush()

    def fail(self, each: Input, error: FileError) -> None:
        """Print nothing: standard error has it."""
