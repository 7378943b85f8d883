"""What happens when a batch fails: it is run again by halves, until the guilty clip alone fails."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

from prometheus_client import Counter

from engines.errors import EngineError
from server.errors import ApiError, EngineFailedError, EngineMemoryError, ModelNotReadyError
from server.scheduling.batches import Batch, halves
from server.scheduling.jobs import AnyJob
from server.scheduling.queue import Queue

logger = logging.getLogger(__name__)

FAILED = Counter("sonant_batch_failures_total", "Batches that failed, by reason.", ["model", "reason"])

OUT_OF_MEMORY, RAISED = REASONS = ("out_of_memory", "raised")

# After so many batches without trouble, twice as much is tried again.
RECOVERY_BATCHES = 32
# So many single clips in a row are not all to blame: the engine is.
SUSPICIOUS = 5


class Faults:
    """Decides about batches that failed, and how large the next may be while memory is short."""

    def __init__(self, model: str, queue: Queue) -> None:
        self.max_samples = math.inf  # padded, of one batch
        self._model = model
        self._queue = queue
        self._untroubled = 0
        self._failed_in_a_row = 0
        for reason in REASONS:  # a counter that begins with its first failure hides that from a rate
            FAILED.labels(model, reason)

    @property
    def is_suspicious(self) -> bool:
        """Whether single clips fail, one after the other, and nothing else happens."""
        return self._failed_in_a_row >= SUSPICIOUS

    def retry(self, batch: Sequence[AnyJob], error: Exception, *, is_sole: bool, has_company: bool) -> None:
        """Settle what cannot succeed, and put back the rest by halves.

        `is_sole`: there was never another clip in the batch; `has_company`: other batches took memory beside it.
        """
        self._report(batch, error)
        if isinstance(error, MemoryError):
            self._shrink(batch)
        if isinstance(error, EngineError) and not isinstance(error, MemoryError):  # whatever the clip
            self.settle(batch, error)
        elif isinstance(error, MemoryError) and is_sole and has_company:
            for job in batch:
                job.needs_all_memory = True
            self._queue.put_back([list(batch)])
        elif is_sole:
            self._failed_in_a_row += not isinstance(error, MemoryError)
            self.settle(batch, error)
        else:
            self._queue.put_back([part for part in halves(batch) if part])

    def settle(self, jobs: Sequence[AnyJob], error: Exception) -> None:
        """Let `jobs` fail with what `error` means for a client."""
        for job in jobs:
            job.settle(_meaning(error))

    def recovered(self) -> None:
        """Say that a batch has run."""
        self._failed_in_a_row = 0
        self._untroubled += 1
        if self._untroubled >= RECOVERY_BATCHES and self.max_samples < math.inf:
            self._untroubled = 0
            self.max_samples *= 2

    def cleared(self) -> None:
        """Say that the engine is not to blame."""
        self._failed_in_a_row = 0

    def _report(self, batch: Sequence[AnyJob], error: Exception) -> None:
        """Count and log; where the error came from is told once, and not for each part of a batch."""
        FAILED.labels(self._model, OUT_OF_MEMORY if isinstance(error, MemoryError) else RAISED).inc()
        again = all(job.has_failed for job in batch)
        for job in batch:
            job.has_failed = True
        logger.error(
            "model %s: the engine failed on a batch of %d clips%s (%s)",
            self._model,
            len(batch),
            ", again" if again else "",
            type(error).__name__,
            exc_info=None if again else error,
        )

    def _shrink(self, batch: Sequence[AnyJob]) -> None:
        self._untroubled = 0
        self.max_samples = min(self.max_samples, Batch.of(batch).padded / 2)
        logger.warning("model %s: out of memory; batches are halved for now", self._model)


def _meaning(error: Exception) -> ApiError:
    if isinstance(error, MemoryError):
        return EngineMemoryError("the engine has not enough memory for this clip")
    if isinstance(error, EngineError):  # a graph that is loaded at its first use, and cannot be
        return ModelNotReadyError("the model cannot compute these outputs; see the server's log")
    return EngineFailedError("the engine failed on this clip; see the server's log")
