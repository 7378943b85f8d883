"""What an engine does next."""

from __future__ import annotations

from server.scheduling.batches import Batch, Room, form_batch
from server.scheduling.engine import BatchEngine
from server.scheduling.faults import Faults
from server.scheduling.jobs import AnyJob, BatchJob, GenerationJob
from server.scheduling.limits import Limits
from server.scheduling.live import Live
from server.scheduling.queue import Queue
from server.scheduling.throughput import Throughput

# A batch that takes so much of what it may have, or leaves clips that do not fit, would hardly be a better one later.
FULL = 0.5
# What takes longer is not formed ahead: the pause before it, of milliseconds, is nothing then, and who comes meanwhile
# would wait for it.
LONGEST_AHEAD_SECONDS = 0.2


class Formation:
    """Takes from the queue what runs as one batch."""

    def __init__(
        self,
        engine: BatchEngine,
        sample_rate: int,
        limits: Limits,
        queue: Queue,
        throughput: Throughput,
        live: Live,
        faults: Faults,
    ) -> None:
        self.limits = limits
        self._engine = engine
        self._sample_rate = sample_rate
        self._queue = queue
        self._throughput = throughput
        self._live = live
        self._faults = faults

    def next_batch(self, *, is_idle: bool) -> list[AnyJob]:
        """Take the jobs that run now; none where the live batches go on. `is_idle`: nothing else runs.

        Where the first clip that is to be written about finds no room, no other does, so that none starves.
        """
        again = self._queue.next_again()
        if again and again[0].needs_all_memory and (not is_idle or self._live):
            return []  # the engine does what it has begun, and then this alone
        if again and self._may_start(again[0]):
            self._queue.take_again()
            return again
        waiting = self._queue.waiting
        if self._live.is_owed or not waiting:
            return []
        first = again[0] if again else next((job for job in waiting if isinstance(job, GenerationJob)), None)
        if first is not None and not self._may_start(first):
            waiting = [job for job in waiting if not isinstance(job, GenerationJob)]
        batch = form_batch(waiting, self._room(waiting[0])) if waiting else []
        if batch and isinstance(batch[0], GenerationJob):
            batch = batch[: self._live.clips(batch[0].plan.beams, self.limits.live_beams)]
        self._queue.take(batch)
        return batch

    def batch_ahead(self) -> list[AnyJob]:
        """Take the jobs that run when a worker is free again, if more time would not make another batch of them.

        So a thread goes from one batch to the next by itself; until it was told what is next, it would do nothing.
        """
        waiting = self._queue.waiting
        if not waiting or self._live or self._queue.next_again() or not isinstance(waiting[0], BatchJob):
            return []
        room = self._room(waiting[0])
        batch = form_batch(waiting, room)
        padded, rows = Batch.of(batch).padded, room.max_rows(waiting[0].samples)
        is_full = len(batch) < len(waiting) or len(batch) >= rows or padded >= FULL * room.padded_samples
        if not is_full or self._throughput.alone(batch) > LONGEST_AHEAD_SECONDS:
            return []
        self._queue.take(batch)
        return batch

    def _may_start(self, job: AnyJob) -> bool:
        """Whether the live batches leave room for `job`; any may start, if there are none."""
        if not isinstance(job, GenerationJob) or not self._live:
            return True
        has_beams = self._live.clips(job.plan.beams, self.limits.live_beams) > 0
        return has_beams and job.samples <= self._live.room(self.limits.live_seconds * self._sample_rate)

    def _room(self, first: AnyJob) -> Room:
        limits, rate = self.limits, self._sample_rate
        padded = limits.batch_seconds * rate
        if isinstance(first, GenerationJob):
            padded = min(limits.start_seconds * rate, self._live.room(limits.live_seconds * rate))
        spare = limits.spare_seconds * rate * self._engine.full_graph.layers
        return Room(min(padded, self._faults.max_samples), limits.max_padding, self._engine.max_rows, spare)
