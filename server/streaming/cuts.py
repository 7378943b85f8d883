"""Where the windows of a stream lie: where they would in the clip of all its audio, told before its end is known."""

from __future__ import annotations

from typing import Protocol

from server.streaming.buffer import Buffer
from server.windows import Geometry, Span, cut_on_silence, following


class Cut(Protocol):
    """Gives the windows one by one."""

    geometry: Geometry
    start: int  # where the window in progress begins: nothing before it is looked at again
    keep_start: int  # where what it keeps begins

    def is_ready(self, buffer: Buffer, has_ended: bool) -> bool:
        """Whether there is a next window that no later audio changes."""
        ...

    def next(self, buffer: Buffer) -> Span:
        """Return the next window, which is ready."""
        ...


class Overlapping:
    """Windows that see some of their neighbours."""

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        self.start = self.keep_start = 0
        self._last: Span | None = None

    def is_ready(self, buffer: Buffer, has_ended: bool) -> bool:
        """See Cut. Only the window that ends with the audio depends on where that is."""
        return buffer.end > (self.keep_start if has_ended else self.start + self.geometry.window)

    def next(self, buffer: Buffer) -> Span:
        """See Cut."""
        self._last = span = following(self._last, buffer.end, self.geometry)
        self.keep_start = span.keep_end
        self.start = max(self.start, span.keep_end - self.geometry.context)
        return span


class OnSilence:
    """Windows that follow one another, cut at the quietest place of their last seconds."""

    def __init__(self, geometry: Geometry, sample_rate: int) -> None:
        self.geometry = geometry
        self.start = self.keep_start = 0
        self._sample_rate = sample_rate

    def is_ready(self, buffer: Buffer, has_ended: bool) -> bool:
        """See Cut. A window is cut so that what follows it is not too short: that must be there."""
        least = 1 if has_ended else self.geometry.window + self.geometry.shortest
        return buffer.end - self.start >= least

    def next(self, buffer: Buffer) -> Span:
        """See Cut."""
        length = cut_on_silence(buffer.copy(self.start, buffer.end), self.geometry, self._sample_rate)[0].end
        span = Span(self.start, self.start + length, self.start, self.start + length)
        self.start = self.keep_start = span.end
        return span
