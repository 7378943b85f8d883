"""One file with the arrays of all clips: each is kept on its own until the run ends, so that a run can go on."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from sonant.runs.arrays import JOIN, ArrayFormat, names_in, write_safetensors
from sonant.runs.errors import FileError, UsageError
from sonant.runs.inputs import Input
from sonant.runs.outcomes import Outcome
from sonant.runs.outputs import ERRORS_NAME, Files, replacing, shown


class Archive:
    """The file at `path`; arrays are named by where a clip stands in the tree of inputs."""

    def __init__(self, path: Path, kind: ArrayFormat, inputs: Sequence[Input], *, anew: bool) -> None:
        """Raise UsageError where the file is there and has other clips, unless it is to be made `anew`."""
        self._path = path
        self._kind = kind
        self._folder = path.with_name(f".{path.name}.parts")
        if anew:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._names = {one: shown(one.relative) for one in inputs}
        self._parts = {one: self._folder / f"{name}.safetensors" for one, name in self._names.items()}
        self._is_there = path.exists() and not anew and not self._folder.exists()
        if self._is_there:
            self._check_names()
        self._files = Files(self._parts, write_safetensors, path.with_name(f"{path.name}.{ERRORS_NAME}"))

    def is_done(self, each: Input) -> bool:
        """See Output."""
        return self._is_there or self._files.is_done(each)

    def write(self, each: Input, outcome: Outcome) -> None:
        """See Output."""
        self._files.write(each, outcome)

    def fail(self, each: Input, error: FileError) -> None:
        """See Output."""
        self._files.fail(each, error)

    def finish(self) -> None:
        """Join what there is. Where a clip failed, the others are kept: the next run tries it again."""
        if self._is_there:
            return
        there = {name: part for one, name in self._names.items() if (part := self._parts[one]).exists()}
        with replacing(self._path) as file:
            JOIN[self._kind](file, there)
        if len(there) == len(self._parts):
            shutil.rmtree(self._folder, ignore_errors=True)

    def _check_names(self) -> None:
        try:
            found = names_in(self._path, self._kind)
        except (ValueError, OSError) as error:
            raise UsageError(f"{error}; name another --output") from None
        missing = [name for name in self._names.values() if not _has(found, name)]
        if missing:
            raise UsageError(f"{self._path} is there without {missing[0]}: make all of it again with --overwrite")


def _has(found: set[str], name: str) -> bool:
    return name in found or any(one.startswith(f"{name}.layer") for one in found)
