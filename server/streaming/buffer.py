"""The samples of a stream that are still needed."""

from __future__ import annotations

import numpy as np

from engines.batch import Clip


class Buffer:
    """Holds the samples from `start` to `end`, counted from the beginning of the stream; never more than its room."""

    def __init__(self, capacity: int) -> None:
        self._samples = np.empty(capacity, np.float32)
        self.start = self.end = 0

    @property
    def room(self) -> int:
        """How many samples can be appended."""
        return self._samples.shape[0] - (self.end - self.start)

    def append(self, samples: Clip) -> None:
        """Hold `samples` too, for which there is room."""
        held = self.end - self.start
        self._samples[held : held + samples.shape[0]] = samples
        self.end += samples.shape[0]

    def forget(self, before: int) -> None:
        """Hold nothing from `before` on backwards."""
        left = self.end - before
        self._samples[:left] = self._samples[before - self.start : self.end - self.start]
        self.start = before

    def copy(self, start: int, end: int) -> Clip:
        """Return the samples from `start` to `end`, which are held; they stay as they are."""
        return self._samples[start - self.start : end - self.start].copy()
