"""Where clips are kept while they are decoded and run: in memory, the long ones in files."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from server.memory import Hold, Memory
from server.spool import Spool, SpoolFile

if TYPE_CHECKING:
    from engines.batch import Clip

# Of a clip: 131 s at 16 kHz. Most models take a minute or less at once: of a longer clip, only the windows that are run
# now are needed. Not less, since each file takes a descriptor.
MAX_BYTES_IN_MEMORY = 8 * 2**20


class Clips:
    """What the clips of all requests in progress may take."""

    def __init__(self, max_bytes: float, spool: Spool) -> None:
        """`max_bytes` in memory; the account of `spool` bounds what is in files."""
        self._memory = Memory("decoded audio", max_bytes)
        self._spool = spool

    @property
    def held(self) -> int:
        """Bytes that are held in memory now."""
        return self._memory.held

    def hold(self, spooled: int = 0) -> ClipHold:
        """Return a request's own account, to be released when its clips have been run: use it with `with`.

        The files of the request have so many bytes in the spool.
        """
        return ClipHold(self._memory.hold(), self._spool, spooled)


class ClipHold:
    """What the clips of one request take; used from any thread."""

    def __init__(self, memory: Hold, spool: Spool, spooled: int = 0) -> None:
        self._memory = memory
        self._disk = spool.hold(spooled)
        self._spool = spool

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.release()

    def check(self) -> None:
        """Raise ReleasedError if the request has ended."""
        self._memory.take(0)

    def new(self) -> ClipWriter:
        """Return what a clip is written with."""
        return ClipWriter(self._memory, self._spool, self._disk)

    def release(self) -> None:
        """Give everything back; whoever still writes a clip learns it with his next block."""
        self._memory.release()
        self._disk.release()


class ClipWriter:
    """One clip, block after block; used by one thread at a time."""

    def __init__(self, memory: Hold, spool: Spool, disk: Hold) -> None:
        self._memory = memory
        self._spool = spool
        self._disk = disk
        self._blocks: list[NDArray[np.float32]] = []
        self._bytes = 0  # of these
        self._file: SpoolFile | None = None

    def write(self, block: NDArray[np.float32]) -> None:
        """Append a copy of `block`, contiguous. Raises as Hold.take does, or StorageFullError."""
        if not block.size:  # resamplers give such
            return
        if self._file is None and self._bytes + block.nbytes > MAX_BYTES_IN_MEMORY:
            self._file = self._spool.file(self._disk)
            for earlier in self._blocks:
                self._file.append(earlier.data)
            self._blocks.clear()
            self._memory.take(-self._bytes)
            self._bytes = 0
        if self._file is not None:
            self._file.append(block.data)
        else:
            self._memory.take(block.nbytes)
            self._bytes += block.nbytes
            self._blocks.append(block.copy())

    def clip(self) -> Clip:
        """Return all of it: an array in memory, or one that is mapped and read only. Raises StorageFullError."""
        return self._file.array() if self._file is not None else np.concatenate(self._blocks)

    def discard(self) -> None:
        """Give back what it holds. Raises ReleasedError."""
        self._blocks.clear()
        self._memory.take(-self._bytes)
        if self._file is not None:
            self._file.discard()
