"""What ONNX Runtime says when memory is short, as an error of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from engines.errors import OutOfMemoryError
from engines.runtimes import first_line

# What ONNX Runtime, which has no exception of its own for it, says of an allocation that failed: the C++ library, its
# arena (bfc_arena.cc: no more to be had; beyond its limit; gone between two threads), CUDA, and cuBLAS or cuDNN by the
# names of their status codes.
NO_MEMORY = re.compile(
    r"(?:bad[_ ]alloc|Failed to allocate memory|Available memory of \d+ is smaller|Failed to find a free memory block"
    r"|Memory allocation failed|out of memory|ALLOC(?:ATION)?_FAILED).*"
)


def shortage(error: Exception) -> str | None:
    """Return what `error` says of an allocation that failed; None if it is of something else."""
    if isinstance(error, MemoryError):
        return first_line(error)
    found = NO_MEMORY.search(str(error))
    return found[0][:200] if found else None


@contextmanager
def allocating(what: str) -> Iterator[None]:
    """Raise OutOfMemoryError where there is not enough memory for `what`, and any other exception as it is."""
    try:
        yield
    except Exception as error:  # onnxruntime's exceptions share no base class but Exception
        reason = shortage(error)
        if reason is None:
            raise
    else:
        return
    raise OutOfMemoryError(f"not enough memory for {what}: {reason}")
