"""Calibrations of the engines that are served: found in the cache, or measured while the server has nothing to do."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Iterable
from typing import cast
from weakref import WeakSet

from pydantic import ValidationError

from engines import host
from engines.engine import Engine
from engines.errors import EngineError
from engines.runtimes import RuntimeOptions
from server.calibration import Calibration
from server.calibration.cache import Cache, Entry, Key, key_of
from server.settings import Settings

logger = logging.getLogger(__name__)

# How often it is looked whether the server is idle: by then a request has hardly begun to be run.
LOOK_SECONDS = 0.1
# No request for so long, and a measurement begins.
QUIET_SECONDS = 5.0
# What a measurement is told to take. The less, the likelier that no request comes meanwhile.
MEASURE_SECONDS = 30.0
# After which it is taken to hang: one round of a very large engine on a slow host may take minutes.
LONGEST_SECONDS = 1800.0
# Free memory, in sizes of the engine's files, for its second copy with what loading and batches take beside.
COPIES = 4.0

Idle = Callable[[], bool]
Apply = Callable[[Engine, Calibration], None]


class Calibrator:
    """Finds calibrations, and makes those that there are not."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._options = RuntimeOptions(settings.device, settings.threads)
        self._cache = Cache(settings.cache)
        self._settled: WeakSet[Engine] = WeakSet()  # have a calibration, or cannot have one

    def find(self, engine: Engine) -> Calibration:
        """Return how `engine` is to be run, as measured or else by default, with what the operator has set; log it.

        It reads a file and asks the runtime: call it in a thread.
        """
        try:
            found = self._cache.read(key_of(engine, self._options, self._settings.workers))
        except EngineError:  # the runtime is not there: loading will say so
            found = None
        calibration = (found or Calibration.default()).overridden(self._settings)
        if found:
            self._settled.add(engine)
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
            await _quiet(idle)
            engine = next((engine for engine in serving() if engine not in self._settled), None)
            if engine is not None:
                await self._calibrate(engine, idle, apply)

    async def _calibrate(self, engine: Engine, idle: Idle, apply: Apply) -> None:
        """Measure `engine` unless a request comes; whatever else comes of it, it is not tried again."""
        try:
            key = await asyncio.to_thread(key_of, engine, self._options, self._settings.workers)
            _check_memory(engine)
            entry = await self._measure(engine, key, idle)
            if entry is None:
                logger.info("model %s: not calibrated yet, requests came", engine.name)
                return
            self._settled.add(engine)
            calibration = entry.calibration.overridden(self._settings)
            logger.info("model %s: %s (measured now; other threads hold from its next load)", engine.name, calibration)
            apply(engine, calibration)
        except Exception as error:
            self._settled.add(engine)
            logger.warning("model %s: not calibrated, it runs as before: %s", engine.name, error)
            return
        try:
            await asyncio.to_thread(self._cache.write, key, entry.calibration)
        except OSError as error:
            logger.warning("model %s: its calibration cannot be kept: %s", engine.name, error)

    async def _measure(self, engine: Engine, key: Key, idle: Idle) -> Entry | None:
        """Measure in another process; None if a request comes before it is done. Raises RuntimeError, OSError."""
        logger.info("model %s: calibrating while there are no requests", engine.name)
        command = [sys.executable, "-m", "sonant.cli", "calibrate", str(engine.folder), "--attached"]
        command += [f"--device={self._settings.device}", f"--threads={self._settings.threads}"]
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


async def _quiet(idle: Idle) -> None:
    """Wait until the server has been idle for a while."""
    since = time.monotonic()
    while time.monotonic() - since < QUIET_SECONDS:
        await asyncio.sleep(LOOK_SECONDS)
        if not idle():
            since = time.monotonic()


def _check_memory(engine: Engine) -> None:
    """Raise RuntimeError where there is no room for the engine a second time."""
    files = {file for graph in engine.graphs for file in graph.sha256}
    needed = COPIES * sum((engine.folder / file).stat().st_size for file in files)
    free = host.free_memory()
    if free is not None and free < needed:
        raise RuntimeError(f"{needed / 2**20:.0f} MiB of free memory are needed, there are {free / 2**20:.0f}")


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
