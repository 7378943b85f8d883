"""How one engine is used."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds of one engine, in seconds of audio where nothing else is said.

    `queue_seconds` are due and wait. A batch has `batch_seconds` with its padding, of which `max_padding` is the share
    that may be padding; one that is started to be written about has `start_seconds`, since a step costs little more for
    many clips than for one. All clips that are being written about have `live_seconds` and `live_beams` together.
    `workers` batches run at a time; a call that takes longer than `watchdog_seconds` hangs. As measured, a batch costs
    `fixed_seconds`, and `seconds_per_second` of padded audio; 0 where nothing was measured.
    """

    queue_seconds: float
    batch_seconds: float
    max_padding: float
    live_beams: int
    live_seconds: float = 120.0
    start_seconds: float = 30.0
    workers: int = 1
    watchdog_seconds: float = 120.0
    fixed_seconds: float = 0.0
    seconds_per_second: float = 0.0

    @property
    def spare_seconds(self) -> float:
        """The padded audio that costs as much as a batch does whatever is in it."""
        return self.fixed_seconds / self.seconds_per_second if self.seconds_per_second else 0.0
