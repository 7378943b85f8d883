"""Arrays in host memory that GPUs copy from and into by themselves, in a process that uses one.

From other memory the driver copies piece by piece through its own buffers, and into other memory that was just
allocated the kernel first has to bring page by page: a GPU that encodes ten thousand seconds of audio a second writes
2 GB of hidden states of 1024 in that time, which would take most of a second.
"""

from __future__ import annotations

import ctypes
import math
import threading
import weakref
from collections import defaultdict, deque
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

# Smaller arrays are not worth a block: a call of the driver takes as long as their copy.
SMALLEST_BYTES = 2**16
# Memory that stays pinned is lost for everything else. Answers are in it until they are written out: those of some
# hundred clips of 30 s at a hidden size of 1024, 6 MB each.
LARGEST_BYTES = 2**30

Pin = Callable[[int], int | None]  # bytes -> address
ScalarT = TypeVar("ScalarT", bound=np.generic)


class PinnedMemory:
    """Blocks of pinned memory, used again once nobody looks at the array that was in them; safe to share.

    Nothing is ever unpinned, which would wait for the GPU.
    """

    def __init__(self, limit: int = LARGEST_BYTES) -> None:
        self._limit = limit
        self._pinned = 0
        self._pin: Pin | None = None
        self._lock = threading.Lock()
        # By size. Blocks come back when the garbage collector says so, whatever the thread holds: without a lock.
        self._free: defaultdict[int, deque[int]] = defaultdict(deque)

    def begin(self, pin: Pin) -> None:
        """Take blocks from `pin` from now on: the process uses a GPU."""
        self._pin = pin

    def empty(self, shape: tuple[int, ...], dtype: type[ScalarT]) -> NDArray[ScalarT]:
        """Return an array of anything, pinned if it can be. Raises MemoryError."""
        needed = math.prod(shape) * np.dtype(dtype).itemsize
        size = 1 << max(needed - 1, 0).bit_length()
        address = self._take(size) if needed >= SMALLEST_BYTES else None
        if address is None:
            return np.empty(shape, dtype)
        block = (ctypes.c_uint8 * size).from_address(address)
        weakref.finalize(block, self._free[size].append, address).atexit = False
        return np.frombuffer(memoryview(block), np.uint8, needed).view(dtype).reshape(shape)

    def _take(self, size: int) -> int | None:
        if self._pin is None:
            return None
        try:
            return self._free[size].pop()
        except IndexError:
            pass
        with self._lock:
            if self._pinned + size > self._limit:
                return None
            address = self._pin(size)
            self._pinned += size if address else 0
            return address


memory = PinnedMemory()
