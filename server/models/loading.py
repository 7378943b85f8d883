"""Engines on their way into memory, with all that serves them, and out again; away from the event loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from engines import repository
from engines.engine import Engine
from engines.manifest import Generation
from engines.replicas import open_engine
from server.calibration import Calibration
from server.calibration.background import Calibrator
from server.decoding.text import TextDecoder
from server.models import forms
from server.models.model import Served
from server.scheduling.limits import Limits
from server.scheduling.scheduler import Scheduler
from server.settings import Settings
from server.tasks.plan import default_search

logger = logging.getLogger(__name__)

# Beams at a time until it is measured for how many a step of the decoder is best taken: as many as a GPU likes, and few
# enough for the caches of a decoder of base size.
LIVE_BEAMS = 64
# Engines that load at a time while nobody can be served yet: one is in Python while the other is in its runtime. More
# would take the processors from each other, and with them the measure of what they cost.
AT_ONCE = 2

T = TypeVar("T")
OnHung = Callable[[str, float], None]
Renew = Callable[[Served, Calibration], Awaitable[None]]


class Loader:
    """Makes engines ready to be served as the operator has set, and as was measured on this host."""

    def __init__(self, settings: Settings, on_hung: OnHung | None = None) -> None:
        self._settings = settings
        self._on_hung = on_hung
        self._calibrator = Calibrator(settings)
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="load")

    def read(self, name: str, folder: Path) -> Engine:
        """Read engine.json of `folder`. Raises EngineError."""
        return open_engine(folder, name, self._settings.options(name))

    async def load(self, engine: Engine, measured: Calibration | None = None) -> Served:
        """Load and verify `engine`, as was `measured` just now, or else as is known of it.

        Raises EngineError, or whatever else goes wrong; then nothing of it is left.
        """
        generation = engine.manifest.generation
        files = await self._in_thread(partial(repository.state_of_files, engine))
        text = await self._in_thread(partial(TextDecoder, engine.folder, generation)) if generation else None
        form_bytes = await self._in_thread(partial(forms.sizes, engine))
        calibration = await self._in_thread(partial(self._calibrator.find, engine, measured))
        engine.tune(calibration.threads, calibration.row, calibration.conv_search)
        file_bytes = await self._in_thread(partial(repository.load, engine))
        if calibration.form not in (None, engine.form.name):  # that turned out not to work
            default = Calibration.default(on_gpu=engine.device != "cpu")
            calibration = replace(default, threads=calibration.threads).overridden(self._settings)
            engine.tune(calibration.threads, calibration.row, calibration.conv_search)
        forms.tell(engine, self._settings.options(engine.name))
        if generation:
            tell_limits(engine.name, generation, self._settings)
        limits = self._limits(engine, calibration)
        scheduler = Scheduler(engine.name, engine, engine.manifest.sample_rate, limits, self._on_hung)
        return Served(engine, scheduler, text, calibration, file_bytes, files, form_bytes)

    async def unload(self, served: Served) -> None:
        """Finish what was admitted, then give the memory back."""
        await served.close()
        # Not in the thread that loads: another engine may take long.
        await asyncio.to_thread(repository.unload, served.engine)

    async def calibrate(self, serving: Callable[[], Iterable[Served]], idle: Callable[[], bool], renew: Renew) -> None:
        """Measure what was not measured on this host yet, whenever the server is `idle()`; until cancelled.

        `renew` puts an engine in another form in the place of one that is served, which it says is to be run so.
        """

        async def apply(engine: Engine, calibration: Calibration) -> None:
            for served in serving():
                if served.engine is engine and calibration.form not in (None, engine.form.name):
                    await renew(served, calibration)
                elif served.engine is engine:
                    live = calibration.live(served.calibration) if served.calibration else calibration
                    served.calibration = live
                    engine.tune(live.threads, live.row, live.conv_search)
                    served.scheduler.tune(self._limits(engine, live))

        leased = _leased(serving())

        def quiet() -> bool:
            """Whether the server is idle, and was so since this was asked before: a request may be short."""
            nonlocal leased
            before, leased = leased, _leased(serving())
            return idle() and leased == before

        await self._calibrator.run(lambda: [served.engine for served in serving()], quiet, apply)

    def close(self) -> None:
        """Load nothing more; what loads cannot be interrupted."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _limits(self, engine: Engine, calibration: Calibration) -> Limits:
        settings = self._settings
        gpus = max(1, len(settings.device_ids)) if engine.device == "cuda" else 1
        # Until it was measured what a batch costs: what the golden clips cost when they were replayed.
        seconds_per_second = calibration.seconds_per_second or engine.seconds_per_second or 0.0
        return Limits(
            settings.queue_seconds,
            calibration.batch_seconds,
            settings.max_padding,
            calibration.live_beams or LIVE_BEAMS,
            live_seconds=settings.live_seconds,
            workers=settings.workers or calibration.workers * gpus,
            watchdog_seconds=settings.watchdog_seconds,
            fixed_seconds=calibration.fixed_seconds,
            seconds_per_second=seconds_per_second,
        )

    async def _in_thread(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function)


def _leased(serving: Iterable[Served]) -> int:
    return sum(served.leased for served in serving)


def tell_limits(name: str, generation: Generation, settings: Settings) -> None:
    """Log what the checkpoint asks for beyond the operator's limits."""
    asked, served = generation.search, default_search(generation, settings)
    for what, theirs, ours in (
        ("tokens", asked.max_length - 1, served.max_length - 1),
        ("beams", asked.num_beams, served.num_beams),
    ):
        if ours < theirs:
            logger.warning("model %s: by default up to %d %s, not the checkpoint's %d", name, ours, what, theirs)
