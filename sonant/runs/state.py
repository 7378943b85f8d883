"""What an output was made with: one that was begun is not gone on with otherwise, nor by two runs at a time."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sonant.runs.errors import UsageError


@contextmanager
def claimed(path: Path, output: Path, description: Mapping[str, Any], *, is_there: bool, anew: bool) -> Iterator[None]:
    """Keep `description` at `path` for `output`, and other runs away from `output` meanwhile.

    `is_there`: there is something in its place, which is made `anew`, or is to be what an earlier run has made by the
    same description. Raises UsageError where it is not, or where another run has it.
    """
    if is_there and not anew and not path.exists():
        raise UsageError(f"{output} was made by something else: name another --output, or replace it with --overwrite")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UsageError(f"another run writes to {output}: wait for it, or name another --output") from None
        file.seek(0)
        before = file.read()
        text = json.dumps(description, sort_keys=True, default=str) + "\n"
        if is_there and not anew and before != text:
            raise UsageError(
                f"{output} was made with {before.strip()}, not with {text.strip()}: name another --output, or replace "
                "all of it with --overwrite"
            )
        if before != text:
            file.truncate(0)
            file.write(text)
            file.flush()
        yield
