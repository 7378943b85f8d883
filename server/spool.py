"""What is too large for memory: files without a name in one directory, and the account of their bytes.

Such a file is gone when nobody has it any more, whatever ended: a request, a thread that still read it, the process.
"""

from __future__ import annotations

import io
import logging
import mmap
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from server.errors import StorageFullError
from server.memory import Hold, Memory

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

    from engines.batch import Clip

logger = logging.getLogger(__name__)

# Threads that write uploads. The kernel takes a mebibyte in less than a millisecond, until the disk cannot follow:
# then who writes waits, and more threads would only wait beside these.
THREADS = 2
PAGE_BYTES = mmap.PAGESIZE
# Of one uploaded file: more goes to the disk. 33 s at 16 kHz and 16 bits, so that most requests never do.
MAX_UPLOAD_BYTES_IN_MEMORY = 2**20


class Spool:
    """One directory, and what all requests together may have in it."""

    def __init__(self, folder: Path, max_bytes: float) -> None:
        """Keep the files in `folder`. Raises ValueError where none can be made in it."""
        self.account = Memory("audio on the disk", max_bytes)
        # For an event loop, which must not wait for a disk: they make and write files.
        self._folder = folder
        self.threads = ThreadPoolExecutor(THREADS, thread_name_prefix="spool")
        try:
            os.close(self._make())
        except OSError as error:
            raise ValueError(f"spool: no file can be made in {folder}: {error.strerror}") from None

    def hold(self, beside: int = 0) -> Hold:
        """Return a request's own account of bytes on the disk; `beside` as of Memory.hold."""
        return self.account.hold(beside)

    def file(self, hold: Hold) -> SpoolFile:
        """Return a new file, whose bytes are taken from `hold`. Raises StorageFullError."""
        try:
            return SpoolFile(self._make(), hold)
        except OSError as error:
            raise _full(error) from error

    def close(self) -> None:
        """Let the threads end."""
        self.threads.shutdown(wait=False)

    def _make(self) -> int:
        with tempfile.TemporaryFile(dir=self._folder, buffering=0) as file:  # has never a name, where the system can
            return os.dup(file.fileno())


class SpoolFile:
    """A file that is written from its beginning to its end, by one thread at a time."""

    def __init__(self, descriptor: int, hold: Hold) -> None:
        self.size = 0
        self._descriptor = descriptor
        self._hold = hold

    def __del__(self) -> None:
        os.close(self._descriptor)

    def fileno(self) -> int:
        """Return the descriptor. Its place means nothing: who has it reads and writes at places of his own."""
        return self._descriptor

    def append(self, data: ReadableBuffer) -> None:
        """Write `data`, which is not empty.

        Raises StorageFullError, and as Hold.take does: then the file is of no more use.
        """
        with memoryview(data) as view, view.cast("B") as rest:
            self._hold.take(len(rest))
            end = self.size + len(rest)
            try:
                while self.size < end:
                    self.size += os.pwrite(self.fileno(), rest[self.size - end :], self.size)
            except OSError as error:
                raise _full(error) from error

    def discard(self) -> None:
        """Give back what it holds: nobody will read it."""
        self._hold.take(-self.size)

    def array(self) -> Clip:
        """Return the float32 that were written, read only and mapped; see `forget`. Raises StorageFullError."""
        try:
            pages = _Pages(self.fileno(), self.size, mmap.MAP_SHARED, mmap.PROT_READ)
        except OSError as error:  # no descriptor, no address
            raise _full(error) from error
        return np.frombuffer(memoryview(pages), np.float32)


class HasDescriptor(Protocol):
    """A file of the system."""

    def fileno(self) -> int:
        """Return its descriptor."""
        ...


class Part(io.RawIOBase):
    """`size` bytes from `start` of a file, to be read as a file of its own: its place is not that of the descriptor."""

    def __init__(self, file: HasDescriptor, start: int, size: int) -> None:
        self.start = start
        self.size = size
        self._file = file
        self._place = 0

    def fileno(self) -> int:
        """Return the descriptor of the whole."""
        return self._file.fileno()

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Go to `offset` from the beginning, from here or from the end. Raises ValueError before the beginning."""
        place = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self.size}[whence]
        if place < 0:
            raise ValueError(f"there is nothing at {place}")
        self._place = place
        return place

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill `buffer` as far as there are bytes; return their number. Raises OSError."""
        with memoryview(buffer) as view:
            count = min(view.nbytes, self.size - self._place)
            if count <= 0:
                return 0
            with view.cast("B") as room:
                read = os.preadv(self.fileno(), [room[:count]], self.start + self._place)
        self._place += read
        return read


class _Pages(mmap.mmap):
    """Of a file that nobody changes: pages that are given back are the same when they are read again."""


def forget(clip: Clip) -> None:
    """Give back the memory of the pages of `clip`, a slice of SpoolFile.array; does nothing for other arrays."""
    whole: NDArray[np.float32] = clip
    while isinstance(whole.base, np.ndarray):
        whole = whole.base
    pages = whole.base.obj if isinstance(whole.base, memoryview) else None
    if isinstance(pages, _Pages) and clip.size:
        place = clip.ctypes.data - whole.ctypes.data
        start = place // PAGE_BYTES * PAGE_BYTES
        pages.madvise(mmap.MADV_DONTNEED, start, place + clip.nbytes - start)


def _full(error: OSError) -> StorageFullError:
    logger.error("audio cannot be written to the directory for it: %s", error)
    return StorageFullError("the server cannot store the audio")
