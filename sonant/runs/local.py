"""The files of a run, done in this process by the server's own parts: its decoders, its scheduler, its tasks."""

from __future__ import annotations

import asyncio
import io
import math
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from engines import host
from engines.engine import Engine
from engines.errors import EngineError
from engines.manifest import MANIFEST_NAME
from server.audio.decoders import Source
from server.configuration import ConfigurationError, load
from server.errors import (
    ApiError,
    EngineHungError,
    MemoryFullError,
    ModelLoadError,
    ModelNotReadyError,
    ShuttingDownError,
)
from server.formats.documents import DOCUMENTS
from server.models.model import Served
from server.process import switch_often
from server.running import ClipRow
from server.schemas.options import ClassifyOptions, EncodeOptions, TranscribeOptions
from server.service import Context, Service
from server.settings import Settings
from server.speech import Said, Speech, describe
from server.tasks import Task, classify
from server.tasks.classify import Classify
from server.tasks.encode import Encode
from server.tasks.transcribe import Transcribe, Write
from sonant.runs.errors import FileError, RunError, UsageError
from sonant.runs.inputs import Input
from sonant.runs.outcomes import Array, Outcome
from sonant.runs.run import Room

# What is in progress, in batches of each of the engine's workers: one runs, the next ones are there when it is done,
# also where decoding keeps up only on average.
BATCHES_AHEAD = 4
# Of a batch on a CPU where nothing was measured. The demo's engines run clips of 1 to 20 s as fast in such batches as
# alone, and 15 % faster than in batches of 30 s, which leave its caches; clips of 0.5 to 3 s up to 50 % faster than
# alone.
CPU_BATCH_SECONDS = 10.0
# However short they are: each takes some of the event loop's time.
MAX_FILES = 256
# A run waits for itself alone: nothing is refused for being too much.
NO_LIMIT = 1e9

# What comes of a source by a deadline, on the clock of time.perf_counter.
Do = Callable[[Source, float], Awaitable[Outcome]]


class Local:
    """An engine that is loaded."""

    def __init__(self, engine: Engine, service: Service, do: Do, timeout: float | None) -> None:
        self.engine = engine
        self._service = service
        self._do = do
        self._timeout = math.inf if timeout is None else timeout
        self._running = 0

    async def run(self, each: Input) -> Outcome:
        """See Worker."""
        self._running += 1
        try:
            return await self._when_there_is_room(Source(None, partial(_open, each)))
        except (EngineHungError, ShuttingDownError) as error:
            raise RunError(error.message) from error
        except ApiError as error:
            raise FileError(error.code, error.message) from error
        finally:
            self._running -= 1

    async def _when_there_is_room(self, source: Source) -> Outcome:
        while True:
            try:
                return await self._do(source, time.perf_counter() + self._timeout)
            except MemoryFullError as error:  # a header said less than there is
                if self._running == 1:
                    raise
                await asyncio.sleep(error.retry_after or 1)


@asynccontextmanager
async def loaded(task: str, options: Mapping[str, Any], flags: Mapping[str, Any]) -> AsyncIterator[tuple[Local, Room]]:
    """Give the engine that `options` name, loaded and verified, and how much it should have to do.

    Raises UsageError where it cannot do what is asked for; RunError where it cannot be loaded, or does not come back
    from a call.
    """
    model, settings = _settings(options.get("model"), flags)
    switch_often()
    run = asyncio.current_task()
    hung: list[str] = []

    def on_hung(name: str, seconds: float) -> None:
        hung.append(f"{name} has not come back for {seconds:.0f} s")
        if run is not None:
            run.cancel()

    try:
        service = Service(settings, on_hung)
    except (EngineError, ValueError, OSError) as error:
        raise UsageError(str(error)) from None
    try:
        name = await _load(service, model, task)
        async with service.models.lease(name, task) as served:  # type: ignore[arg-type]  # it was leased just now
            local = Local(served.engine, service, _prepared(service, served, task, options), options.get("timeout"))
            yield local, _room(served, settings)
    except asyncio.CancelledError:
        if hung:
            raise RunError(hung[0]) from None
        raise
    await service.close()  # not where it failed: what a thread does then is not waited for


def _settings(model: str | None, flags: Mapping[str, Any]) -> tuple[str | None, Settings]:
    """Return the name of the model, and the settings: flags, the environment and the file, as of the server."""
    given: dict[str, Any] = {"calibrate": "off", "queue_seconds": NO_LIMIT, **flags}
    if model is not None and Path(model, MANIFEST_NAME).is_file():
        folder = Path(model).absolute()
        given["models"], model = folder.parent, folder.name
    elif model is not None and "/" in model:
        raise UsageError(f"{model} is not an engine: there is no {MANIFEST_NAME}")
    try:
        return model, load(given)
    except ConfigurationError as error:
        raise UsageError(str(error)) from None


async def _load(service: Service, model: str | None, task: Any) -> str:
    """Load what `model` names, or the default of `task`; return its name."""
    try:
        async with service.models.lease(model, task):
            pass
    except ModelNotReadyError:  # all that can be known before it is loaded is as it must be
        name = model or service.models.default_for(task) or ""
    except ApiError as error:
        raise UsageError(f"{error.message} (--model)") from None
    try:
        await service.models.load(name)
    except ModelLoadError as error:
        raise RunError(f"model {name!r} cannot be loaded: {error.message}") from None
    return name


def _room(served: Served, settings: Settings) -> Room:
    """Return how much is in progress at a time; where nothing was measured, choose what suits a run on a CPU."""
    limits, calibration = served.scheduler.limits, served.calibration
    if served.engine.device == "cpu" and calibration is not None and calibration.measured is None:
        chosen = replace(
            calibration,
            batch_seconds=settings.batch_seconds or CPU_BATCH_SECONDS,
            # A server leaves a core to others; a run takes all that there are.
            workers=settings.workers or max(1, host.cores() // calibration.threads),
        )
        served.engine.tune(chosen.threads, chosen.row, chosen.conv_search)
        limits = replace(limits, batch_seconds=chosen.batch_seconds, workers=chosen.workers)
        served.scheduler.tune(limits)
    return Room(BATCHES_AHEAD * limits.workers * limits.batch_seconds, MAX_FILES)


def _open(each: Input) -> io.BufferedIOBase:
    """Open a file in the thread that decodes it. Raises FileError."""
    try:
        return io.BytesIO(sys.stdin.buffer.read()) if each.is_standard_input else each.path.open("rb")
    except OSError as error:
        raise FileError("file_unreadable", f"the file cannot be read: {error.strerror}") from error


def _prepared(service: Service, served: Served, task: str, options: Mapping[str, Any]) -> Do:
    """Return what does one file. Raises UsageError for an option that the engine cannot honour."""
    try:
        return TASKS[task](service, served, options)
    except ApiError as error:
        raise UsageError(error.message) from None


def _encode(service: Service, served: Served, given: Mapping[str, Any]) -> Do:
    task = Encode(served.engine.manifest, EncodeOptions.model_validate(given))

    def make(clip: ClipRow) -> Outcome:
        arrays = [Array(one.array, one.layer, one.frame_rate_hz) for one in task.result(clip.windows)]
        return Outcome(clip.duration, {"duration": clip.duration, "windows": len(clip.windows)}, arrays=arrays)

    return partial(_run, service, served, task, make)


def _classify(service: Service, served: Served, given: Mapping[str, Any]) -> Do:
    task = Classify(served.engine.manifest, ClassifyOptions.model_validate(given))

    def make(clip: ClipRow) -> Outcome:
        return Outcome(clip.duration, classify.describe(task, clip.windows, clip.duration))

    return partial(_run, service, served, task, make)


async def _run(
    service: Service, served: Served, task: Task, make: Callable[[ClipRow], Outcome], source: Source, deadline: float
) -> Outcome:
    """Run one file, and make what comes of it in a thread that makes answers."""
    with service.answer() as hold:
        [clip] = await service.run(served, task, [source], {}, hold, deadline)
        return await service.offload(partial(make, clip))


def _transcribe(service: Service, served: Served, given: Mapping[str, Any]) -> Do:
    options = TranscribeOptions.model_validate(given)
    document = DOCUMENTS.get(options.response_format)

    def make(clips: Sequence[Said]) -> Outcome:
        [said] = clips
        if document is None:
            return Outcome(said.duration, describe(said, options))
        return Outcome(said.duration, text=document.write(said.transcript))

    async def do(source: Source, deadline: float) -> Outcome:
        with service.answer() as hold:
            return await Speech(Context(service, {}, hold), served, options, deadline).transcribe([source], make)

    manifest, settings = served.engine.manifest, service.settings
    if served.text is None:  # made only to see whether the options can be honoured
        Transcribe(manifest, options, settings)
    else:
        Write(manifest, served.text, options, settings)
    return do


TASKS: Mapping[str, Callable[[Service, Served, Mapping[str, Any]], Do]] = {
    "encode": _encode,
    "classify": _classify,
    "transcribe": _transcribe,
}
