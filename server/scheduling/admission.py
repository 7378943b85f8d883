"""A request that was admitted as a whole, and whose clips are submitted bit by bit."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from server.scheduling.jobs import AnyJob

# Of the engine, at least, for each such request. Others that ask for no more than the rest wait only for the windows
# that are on their way.
SHARE = 1 / 4


@dataclass(eq=False)
class Admission:
    """What of a request is still to be submitted, and when.

    Each of its jobs is due when it would be its turn if the engine had nothing else to do, as if all had been submitted
    at once; one that is submitted later is due by then, or when it would have been its turn with a SHARE of the engine.
    So neither does a clip of hours keep others waiting, the longer the more it is late, nor they it for good. While the
    request itself holds its jobs back, such as for a client that reads its answer slowly, no time is saved up.
    """

    seconds: float  # that the engine needs for what is still to be submitted
    due_at: float = field(default_factory=lambda: time.perf_counter())  # the next job, with all of the engine
    _latest: float = 0.0  # the same, with its share
    _open: Sequence[AnyJob] = ()

    @property
    def due(self) -> float:
        """When the next job is due, if it is submitted now."""
        now = time.perf_counter()
        is_held_up = any(not job.future.done() for job in self._open)
        return max(self.due_at, min(now, self._latest) if is_held_up else now)

    def ahead(self, until: float) -> float:
        """Return how long the engine needs for what is still to be submitted, and due by `until`."""
        due, now = self.due, time.perf_counter()
        seconds = until - max(due, now) + SHARE * max(0.0, now - due)
        return max(0.0, min(self.seconds, seconds))

    def submit(self, job: AnyJob, seconds: float) -> None:
        """Let `job`, for which the engine needs so long, be due."""
        job.due = self.due
        self.due_at, self._latest = job.due + seconds, job.due + seconds / SHARE
        self.seconds = max(0.0, self.seconds - seconds)
        self._open = [*(one for one in self._open if not one.future.done()), job]
