"""Memory that the requests in progress hold, counted as they take it: what does not fit is refused, not allocated."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

from prometheus_client import Gauge

from server.errors import MemoryFullError, RequestTooLargeError

HELD = Gauge("sonant_held_bytes", "What the requests in progress hold, in memory and in the spool.", ["kind"])
HELD_LIMIT = Gauge("sonant_held_limit_bytes", "What they may hold at most: above it requests are refused.", ["kind"])

# What fills the memory are the requests in progress: soon one of them has its answer.
RETRY_SECONDS = 1


class Memory:
    """What all requests together may hold of one kind, in bytes; used from any thread."""

    def __init__(self, kind: str, ceiling: float, advice: str = "") -> None:
        """`kind` is what error messages call it, `advice` what they tell who asks for more than there ever is."""
        self._kind = kind
        self._advice = f": {advice}" if advice else ""
        self._ceiling = ceiling
        self._held = 0
        self._lock = threading.Lock()
        HELD.labels(kind).set_function(lambda: self._held)  # when asked for: a request changes it often
        HELD_LIMIT.labels(kind).set(ceiling)

    @property
    def held(self) -> int:
        """Bytes that are held now."""
        return self._held

    def hold(self, beside: int = 0) -> Hold:
        """Return a request's own account, to be released when the request has its answer: use it with `with`.

        `beside` is what the request has in another, and holds for as long.
        """
        return Hold(self, beside)

    def check(self, size: int) -> None:
        """Raise MemoryFullError if `size` bytes more would not fit; nothing is taken."""
        if self._held + size > self._ceiling:
            raise self._full()

    def move(self, size: int, own: int) -> None:
        """Take `size` bytes for a request that holds `own`; a negative size gives back. Raises as Hold.take."""
        with self._lock:
            if self._held + size > self._ceiling and size > 0:
                raise self._never(own + size) if own + size > self._ceiling else self._full()
            self._held += size

    def _full(self) -> MemoryFullError:
        message = f"the server holds {self._held} bytes of {self._kind}, {self._ceiling} is the limit"
        return MemoryFullError(message, retry_after=RETRY_SECONDS)

    def _never(self, size: int) -> RequestTooLargeError:
        message = f"the request's {self._kind} takes {size} bytes or more, the limit is {self._ceiling}{self._advice}"
        return RequestTooLargeError(message)


class Hold:
    """What one request holds of a Memory; used from any thread."""

    def __init__(self, memory: Memory, beside: int = 0) -> None:
        self._memory = memory
        self._beside = beside
        self._size = 0
        self._released = False
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.release()

    def take(self, size: int) -> None:
        """Hold `size` bytes more, or fewer if it is negative.

        Raises MemoryFullError, RequestTooLargeError where this request alone is too large, or ReleasedError.
        """
        with self._lock:
            if self._released:
                raise ReleasedError
            self._memory.move(size, self._beside + self._size)
            self._size += size

    def release(self) -> None:
        """Give everything back; whoever still works for the request learns it at his next `take`."""
        with self._lock:
            self._released = True
            self._memory.move(-self._size, 0)
            self._size = 0


class ReleasedError(Exception):
    """The request has ended: nobody waits for what is done for it."""
