"""Files that somebody else has put there: only regular ones are opened, and no more is read than was expected."""

from __future__ import annotations

import errno
import stat
from pathlib import Path


def check_regular(path: Path) -> None:
    """Raise OSError if there is no regular file at `path`: a pipe is waited for, a device may not end."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))


def read(path: Path, max_bytes: int) -> bytes:
    """Return the bytes of a regular file. Raises OSError where it cannot be read, is none or has more than that."""
    check_regular(path)
    with path.open("rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise OSError(errno.EFBIG, f"it is larger than {max_bytes} bytes", str(path))
    return data
