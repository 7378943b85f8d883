"""Calibrations of the engines that are served: found in the cache, or measured while the server has nothing to do."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable, Iterable
from typing import cast
from weakref import WeakKeyDictionary, WeakSet

from pydantic import ValidationError

from engines import host, runtimes
from engines.engine import Engine
from engines.errors import EngineError
from engines.runtimes import RuntimeOptions, cuda
from server.calibration import Calibration
from server.calibration.cache import OPTIONS, Cache, Entry, Key, key_of
from server.settings import Settings

logger = logging.getLogger(__name__)

# How often it is looked whether the server is idle: by then a request has hardly begun to be run.
LOOK_SECONDS = 0.1
# No request for so long, and a measurement begins; after each that a request has interrupted, twice as long.
QUIET_SECONDS = 5.0
# After so many none begins any more: the last has waited for ten minutes of quiet, which a server that is never idle
# for long does not have.
TRIES = 8
# What a measurement is told to take. The less, the likelier that no request comes meanwhile.
MEASURE_SECONDS = 30.0
# After which it is taken to hang: one round of a very large engine on a slow host may take minutes.
LONGEST_SECONDS = 1800.0
# Free memory, in sizes of the engine's files, for its second copy with what loading and batches take beside.
COPIES = 4.0
# On a GPU beside that: the CUDA context of another process with its libraries, half a GiB, and as much to spare.
CONTEXT_BYTES = 2**30
# Where this process finds its modules, the measuring one finds the same: `-m` would look into the working directory
# first.
PROGRAM = "import sys; sys.path[:] = {path!r}; from sonant.cli import main; sys.exit(main())"

Idle = Callable[[], bool]
Apply = Callable[[Engine, Calibration], Awaitable[None]]


class Calibrator:
    """Finds calibrations, and makes those that there are not."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._cache = Cache(settings.cache)
        self._settled: WeakSet[Engine] = WeakSet()  # have a calibration, or cannot have one
        self._interruptions: WeakKeyDictionary[Engine, int] = WeakKeyDictionary()

    def find(self, engine: Engine, measured: Calibration | None = None) -> Calibration:
        """Put the form of `engine` in use that was found to be best, and return how it is to be run; log it.

        That is as was `measured` now or before, else by default, with what the operator has set. It reads a file and
        asks the runtime: call it in a thread.
        """
        found, on_gpu, options = measured, False, self._settings.options(engine.name)
        try:
            found = found or self._cache.read(key_of(engine, options, self._settings.workers))
            on_gpu = is_on_gpu(engine.form.runtime, options)
        except EngineError:  # the runtime is not there: loading will say so
            pass
        calibration = (found or Calibration.default(on_gpu=on_gpu)).overridden(self._settings)
        if found:
            self._settled.add(engine)
            engine.use(found.form or engine.form.name)
        how = f"measured on this host, {found.measured}" if found else "by default"
        logger.info("model %s: %s (%s)", engine.name, calibration, how)
        return calibration

    async def run(self, serving: Callable[[], Iterable[Engine]], idle: Idle, apply: Apply) -> None:
        """Measure each engine of `serving()` that has no calibration while the server is `idle()`, until cancelled.

        `idle` says whether no request is in progress, nor has been since it was asked before. `apply` gets each engine
        with what was found, in the loop. Whatever fails, the server goes on as it is.
        """
        if self._settings.calibrate == "off":
            return
        while True:
            engine = self._next(serving)
            if engine is None:
                await asyncio.sleep(QUIET_SECONDS)
                continue
            await _quiet(idle, QUIET_SECONDS * 2 ** self._interrupted(engine))
            if engine is self._next(serving):  # else it was unloaded meanwhile
                await self._calibrate(engine, idle, apply)

    def _next(self, serving: Callable[[], Iterable[Engine]]) -> Engine | None:
        """Return the engine that was interrupted least of those that are not settled."""
        unsettled = (engine for engine in serving() if engine not in self._settled)
        return min(unsettled, key=self._interrupted, default=None)

    def _interrupted(self, engine: Engine) -> int:
        return self._interruptions.get(engine, 0)

    async def _calibrate(self, engine: Engine, idle: Idle, apply: Apply) -> None:
        """Measure `engine` unless a request comes; whatever else comes of it, it is not tried again."""
        try:
            options = self._settings.options(engine.name)
            key = await asyncio.to_thread(key_of, engine, options, self._settings.workers)
            await asyncio.to_thread(_check_memory, engine, options.device_id)
            entry = await self._measure(engine, key, idle, options)
            if entry is None:
                self._interrupt(engine)
                return
            self._settled.add(engine)
            calibration = entry.calibration.overridden(self._settings)
            logger.info("model %s: %s (measured now)", engine.name, calibration)
            for each in calibration.forms:
                if each.reason:
                    logger.warning("model %s: %s was left out: %s", engine.name, each.form, each.reason)
            await apply(engine, calibration)
        except Exception as error:
            self._settled.add(engine)
            logger.warning("model %s: not calibrated, it runs as before: %s", engine.name, error)
            return
        try:
            await asyncio.to_thread(self._cache.write, key, entry.calibration)
        except OSError as error:
            logger.warning("model %s: its calibration cannot be kept: %s", engine.name, error)

    def _interrupt(self, engine: Engine) -> None:
        """Say that a request came while `engine` was measured."""
        self._interruptions[engine] = self._interrupted(engine) + 1
        logger.info("model %s: not calibrated yet, requests came", engine.name)
        if self._interrupted(engine) == TRIES:
            self._settled.add(engine)
            logger.warning(
                "model %s: not calibrated, there are always requests; run `sonant calibrate %s` before the next start",
                engine.name,
                engine.folder,
            )

    async def _measure(self, engine: Engine, key: Key, idle: Idle, options: RuntimeOptions) -> Entry | None:
        """Measure in another process; None if a request comes before it is done. Raises RuntimeError, OSError."""
        logger.info("model %s: calibrating while there are no requests", engine.name)
        command = [sys.executable, "-I", "-c", PROGRAM.format(path=sys.path)]
        command += ["calibrate", str(engine.folder), "--attached"]
        command += [_flag(name, getattr(options, name)) for name in OPTIONS]
        command += [f"--workers={self._settings.workers}", f"--seconds={MEASURE_SECONDS}"]
        # It ends when its standard input does, which is when this process ends, however it ends.
        process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, stderr=PIPE)
        output = asyncio.create_task(_output(process))
        try:
            begun = time.monotonic()
            while not output.done():
                await asyncio.wait([output], timeout=LOOK_SECONDS)
                if not idle():
                    return None
                if time.monotonic() - begun > LONGEST_SECONDS:
                    raise RuntimeError(f"the measurement took more than {LONGEST_SECONDS:g} s")
            return _entry(await output, key)
        finally:
            await _end(process, output)


def _flag(name: str, value: object) -> str:
    name = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no-{name}"
    return f"--{name}={value}"


async def _quiet(idle: Idle, seconds: float) -> None:
    """Wait until the server has been idle for so long."""
    since = time.monotonic()
    while time.monotonic() - since < seconds:
        await asyncio.sleep(LOOK_SECONDS)
        if not idle():
            since = time.monotonic()


def is_on_gpu(runtime: str, options: RuntimeOptions) -> bool:
    """Whether `runtime` would choose a GPU. Raises RuntimeUnavailableError."""
    return runtimes.find(runtime).describe(options.device, options.device_id)["device"] != "cpu"


def _check_memory(engine: Engine, device_id: int) -> None:
    """Raise RuntimeError where there is no room for the engine a second time, on the host or on its GPU.

    It is measured in one form at a time.
    """
    needed = COPIES * max(engine.file_bytes(form.graphs) for form in engine.forms.usable)
    _check_free("memory", needed, host.free_memory())
    if engine.device == "cuda":
        _check_free("GPU memory", needed + CONTEXT_BYTES, cuda.free_memory(device_id))


def _check_free(what: str, needed: float, free: int | None) -> None:
    if free is not None and free < needed:
        raise RuntimeError(f"{needed / 2**20:.0f} MiB of free {what} are needed, there are {free / 2**20:.0f}")


async def _output(process: Process) -> str:
    """Return what `process` prints. Raises RuntimeError with the last line of its errors if it fails."""
    pipes = [cast(asyncio.StreamReader, pipe) for pipe in (process.stdout, process.stderr)]
    printed, errors = await asyncio.gather(*(pipe.read() for pipe in pipes))
    if await process.wait():
        lines = errors.decode(errors="replace").split("\n")
        last = next((line for line in reversed(lines) if line.strip()), "it says nothing")
        raise RuntimeError(f"the measurement ended with status {process.returncode}: {last}")
    return printed.decode()


def _entry(text: str, key: Key) -> Entry:
    try:
        entry = Entry.model_validate_json(text)
    except ValidationError as error:
        raise RuntimeError(f"the measurement cannot be read: {str(error).splitlines()[0]}") from None
    if entry.key != key:
        raise RuntimeError("the engine in the folder is another by now")
    return entry


async def _end(process: Process, output: asyncio.Task[str]) -> None:
    """End `process` if it runs, and leave nothing of it behind."""
    if process.returncode is None:
        process.kill()
    cast(asyncio.StreamWriter, process.stdin).close()
    await asyncio.wait([output])  # it ends with the process
    if not output.cancelled():
        output.exception()  # looked at: nobody is told what a killed process said
