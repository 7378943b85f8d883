"""What runs an engine best on this host, and what that costs: measured once, kept, and applied at every start."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from pydantic import ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt

from engines.host import engine_threads
from engines.memory import UNMEASURED, RowMemory
from engines.runtimes import ConvSearch
from server.settings import Settings

# Longest x count of a batch where nothing was measured. On a GPU a batch gains most of what it can gain by then. On a
# CPU it gains nothing, and at 30 s small engines lose 15 % of their speed; a few short clips still share what a call
# costs.
GPU_BATCH_SECONDS, CPU_BATCH_SECONDS = 30.0, 10.0

Finite = Annotated[NonNegativeFloat, Field(allow_inf_nan=False)]


@dataclass(frozen=True)
class FormTime:
    """What a form of an engine took for one clip alone, before the fastest were measured; or why it was left out."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    form: str
    sentence_seconds: Finite = 0.0  # for a clip of 5 s, or the longest that it takes
    long_seconds: Finite = 0.0  # for one of 10 s, likewise
    reason: str | None = None


@dataclass(frozen=True)
class Calibration:
    """How to run an engine on this host.

    While `workers` batches run at a time, each takes fixed_seconds + seconds_per_second x its padded seconds of audio,
    longest x count; both are 0 where nothing was measured. With a decoder that is what it takes to begin.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    threads: PositiveInt  # inside one operation
    workers: PositiveInt  # batches that the engine runs at a time
    batch_seconds: Annotated[PositiveFloat, Field(allow_inf_nan=False)]  # longest x count of a batch
    fixed_seconds: Finite
    seconds_per_second: Finite
    bytes_per_second: Finite  # of memory for a row of a batch: so much for each second of it,
    bytes_per_square_second: Finite  # and so much for the square of its seconds
    measured: str | None = None  # when, UTC, ISO 8601; None: these are defaults
    # Beams, of all clips that are written about at a time, with which a step costs each the least, but for little; None
    # without a decoder, and where nothing was measured.
    live_beams: PositiveInt | None = None
    conv_search: ConvSearch | None = None  # the fastest on this GPU; None where it was not measured
    form: str | None = None  # for which it holds: the fastest; None where nothing was measured
    forms: tuple[FormTime, ...] = ()  # among which it was chosen, where there were several

    @classmethod
    def default(cls, *, on_gpu: bool = False) -> Calibration:
        """Return what holds on this host where nothing was measured."""
        batch_seconds = GPU_BATCH_SECONDS if on_gpu else CPU_BATCH_SECONDS
        memory = (UNMEASURED.bytes_per_second, UNMEASURED.bytes_per_square_second)
        return cls(engine_threads(), 1, batch_seconds, 0.0, 0.0, *memory)

    @property
    def row(self) -> RowMemory:
        """What a row takes, for `Engine.tune`: as many times as there are batches that may each have as many rows."""
        return RowMemory(self.workers * self.bytes_per_second, self.workers * self.bytes_per_square_second)

    def overridden(self, settings: Settings) -> Calibration:
        """Return this with what the operator has set in place of what was measured."""
        return replace(
            self,
            threads=settings.threads or self.threads,
            workers=settings.workers or self.workers,
            batch_seconds=settings.batch_seconds or self.batch_seconds,
            live_beams=settings.live_beams or self.live_beams,
        )

    def live(self, loaded: Calibration) -> Calibration:
        """Return what of this can hold at once for an engine that was loaded as `loaded` says.

        Its threads are those of its sessions; as many workers as go with other threads would be too many, or too few.
        """
        if self.threads == loaded.threads:
            return self
        return replace(self, threads=loaded.threads, workers=loaded.workers)

    def __str__(self) -> str:
        said = f"threads {self.threads}, workers {self.workers}, {self.batch_seconds:g} s of audio in a batch"
        if not self.measured:
            return said
        fixed, each = self.fixed_seconds * 1e3, self.seconds_per_second * 1e3
        said = f"{said}, which takes {fixed:.1f} ms and {each:.2f} ms per second"
        said = f"{self.form}, {said}" if self.form else said
        return f"{said}; {self.live_beams} beams at a time" if self.live_beams else said
