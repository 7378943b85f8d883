"""How many rows of a batch there is memory for: a row takes more than in proportion to its length."""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass

from engines import host
from engines.runtimes import RuntimeOptions, cuda

# Of what is free, one batch may take so much: other engines run batches at the same time, and clips are decoded.
SHARE = 0.25
# What is free is asked for at most once in so many seconds: it takes a millisecond or two, and batches are formed more
# often than that.
REFRESH_SECONDS = 1.0


@dataclass(frozen=True)
class RowMemory:
    """What a row of a batch takes beside the weights, in bytes: proportional to its seconds, and to their square."""

    bytes_per_second: float
    bytes_per_square_second: float

    def of(self, seconds: float) -> float:
        """Return the bytes of a row."""
        return self.bytes_per_second * seconds + self.bytes_per_square_second * seconds**2


# Where nothing was measured: twice what an encoder of 94 million parameters takes on a CPU, 13 MiB per second and, with
# 12 heads, 50 frames per second and two arrays of attention weights in fp32, 0.23 MiB per second squared.
UNMEASURED = RowMemory(26 * 2**20, 0.5 * 2**20)


class Memory:
    """The memory that one batch may take; safe to share between threads."""

    def __init__(self, options: RuntimeOptions | None = None) -> None:
        """`options` say what the operator allows, and which GPU is asked; without any, a quarter of what is free."""
        self.row = UNMEASURED
        self._options = options or RuntimeOptions()
        self._on_device: int | None = None  # free on a GPU when the first weights were there, less those of later
        self._free: float | None = None
        self._asked = -REFRESH_SECONDS

    def loaded(self, device: str, weights: int) -> None:
        """Say that a session with so many bytes of weights was loaded.

        A GPU is asked the first time only: what its arena takes later is free for the next batch.
        """
        if device != "cuda":
            return
        if self._on_device is None:
            self._on_device = cuda.free_memory(self._options.device_id)
        else:
            self._on_device = max(0, self._on_device - weights)

    def rows(self, seconds: float) -> int:
        """Return how many rows of this length there is memory for; a large number where nobody knows."""
        limit = self._options.batch_bytes or self._share()
        need = self.row.of(seconds)
        return sys.maxsize if limit is None or need <= 0 else int(limit / need)

    def _share(self) -> float | None:
        if self._on_device is not None:
            # A graph that may take only so much spends it on its batches, and on nothing else.
            return min(SHARE * self._on_device, self._options.device_bytes or math.inf)
        now = time.monotonic()
        if now - self._asked >= REFRESH_SECONDS:
            free = host.free_memory()
            if free is not None:  # else, without a descriptor to ask with, what was said last holds
                self._free = SHARE * free
            self._asked = now
        return self._free
