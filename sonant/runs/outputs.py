"""Where outcomes go, so that what is there is whole: a run that was killed goes on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path, PurePath
from typing import Any, BinaryIO, Protocol

import orjson

from sonant.runs.errors import FileError, UsageError
from sonant.runs.inputs import Input
from sonant.runs.outcomes import Item, Outcome

# Below an output folder: what failed in the last run, a line of JSON for each file.
ERRORS_NAME = "errors.jsonl"


class Output(Protocol):
    """Used by one thread at a time. Each of the methods may raise OSError."""

    def is_done(self, each: Input) -> bool:
        """Whether the outcome of a file is there from an earlier run."""
        ...

    def write(self, each: Input, outcome: Outcome) -> None:
        """Keep an outcome; it is there as a whole, or not at all."""
        ...

    def fail(self, each: Input, error: FileError) -> None:
        """Keep that there is none."""
        ...

    def finish(self) -> None:
        """End a run that has taken all of its files. Raises UsageError where something else is in the way."""
        ...


class Lines:
    """Lines of JSON, one object each, in the order in which they are done; written as a whole and at once."""

    def __init__(self, file: BinaryIO, render: Callable[[Outcome], Item], done: Collection[str] = ()) -> None:
        """`render` makes the object of an outcome, `done` are the paths that have theirs."""
        self._file = file
        self._render = render
        self._done = done

    def is_done(self, each: Input) -> bool:
        """See Output."""
        return shown(each.path) in self._done

    def write(self, each: Input, outcome: Outcome) -> None:
        """See Output."""
        self._append(line({"path": shown(each.path), **self._render(outcome)}))

    def fail(self, each: Input, error: FileError) -> None:
        """See Output."""
        self._append(line(failure(each, error)))

    def finish(self) -> None:
        """See Output."""

    def _append(self, data: bytes) -> None:
        self._file.write(data)
        self._file.flush()


class Files:
    """A file for each input: written under another name, then renamed."""

    def __init__(
        self,
        targets: Mapping[Input, Path],
        write: Callable[[BinaryIO, Outcome], None],
        errors: Path | None = None,
        *,
        anew: bool = False,
    ) -> None:
        """`errors` is a file for what fails; `anew`: what is there is made again."""
        self._targets = targets
        self._write = write
        self._errors = errors
        self._anew = anew
        if errors is not None:
            errors.unlink(missing_ok=True)

    def is_done(self, each: Input) -> bool:
        """See Output."""
        return not self._anew and self._targets[each].exists()

    def write(self, each: Input, outcome: Outcome) -> None:
        """See Output."""
        target = self._targets[each]
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as file:
            self._write(file, outcome)

    def fail(self, each: Input, error: FileError) -> None:
        """See Output."""
        if self._errors is not None:
            self._errors.parent.mkdir(parents=True, exist_ok=True)
            with self._errors.open("ab") as file:
                file.write(line(failure(each, error)))

    def finish(self) -> None:
        """See Output."""


class replacing:  # noqa: N801  # it is used as `open` is
    """A file that takes the place of `target` when it is written, and not before."""

    def __init__(self, target: Path) -> None:
        self._target = target
        # The same each time: a run that was killed leaves one of them at most, and the next one takes it.
        self._partial = target.with_name(f".{target.name}.partial")

    def __enter__(self) -> BinaryIO:
        self._file = self._partial.open("wb")
        return self._file

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._file.close()
        if kind is None:
            self._partial.replace(self._target)
        else:
            self._partial.unlink(missing_ok=True)


def resumed(path: Path) -> set[str]:
    """Return the paths whose lines are in the file at `path`; what is not whole, or tells of an error, is taken out.

    Raises UsageError for a file that is something else.
    """
    if not path.exists():
        return set()
    done: set[str] = set()
    kept, dropped = 0, False
    with path.open("rb") as file:
        for number, text in enumerate(file, 1):
            entry = _entry(text, path, number)
            if entry is None or "error" in entry:
                dropped = True
            else:
                done.add(entry["path"])
                kept += 1
    if dropped:
        with path.open("rb") as file, replacing(path) as other:
            for number, text in enumerate(file, 1):
                entry = _entry(text, path, number)
                if entry is not None and "error" not in entry:
                    other.write(text)
    return done


def _entry(text: bytes, path: Path, number: int) -> dict[str, Any] | None:
    """Return what stands in a line; None for the beginning of one."""
    if not text.endswith(b"\n"):
        return None
    try:
        entry = json.loads(text)
    except ValueError:
        entry = None
    if not isinstance(entry, dict) or not isinstance(entry.get("path"), str):
        raise UsageError(f"{path}, line {number}: not of this command; name another file with --output")
    return entry


def line(item: Item) -> bytes:
    """Return a line of JSON."""
    return orjson.dumps(item, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)


def failure(each: Input, error: FileError) -> Item:
    """Return what JSON says of a file that failed."""
    return {"path": shown(each.path), "error": {"code": error.code, "message": error.message}}


def shown(path: PurePath) -> str:
    """Return `path` as text; bytes of a name that are not UTF-8 as escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
