"""The loop over the files: some at a time, each on its own; what fails is reported, and the others go on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from sonant.runs import progress
from sonant.runs.errors import FileError, RunError, UsageError
from sonant.runs.inputs import Input
from sonant.runs.outcomes import Worker
from sonant.runs.outputs import Output
from sonant.runs.progress import Display, Totals


@dataclass(frozen=True)
class Room:
    """How much is in progress at a time: so many seconds of audio, or one file that is longer; so many files."""

    seconds: float
    files: int


async def run(
    files: Awaitable[Mapping[Input, float]],
    worker: Worker,
    room: Room,
    output: Output,
    display: Display,
    totals: Totals,
) -> None:
    """Take `files` in their order, with about their seconds, and keep what comes of each in `output`.

    Adds to `totals`. Raises RunError or UsageError where it cannot go on, or OSError where nothing can be written.
    """
    started = time.perf_counter()
    loop = _Loop(await files, started, worker, room, output, display, totals)
    try:
        async with asyncio.TaskGroup() as tasks:
            await loop.feed(tasks)
    except* (RunError, UsageError, OSError) as errors:
        raise _first(errors) from None
    finally:
        loop.close()


class _Loop:
    def __init__(
        self,
        files: Mapping[Input, float],
        started: float,
        worker: Worker,
        room: Room,
        output: Output,
        display: Display,
        totals: Totals,
    ) -> None:
        self._files, self._started, self._worker, self._room = files, started, worker, room
        self._output, self._display, self._totals = output, display, totals
        self._seconds = self._count = 0.0  # in progress
        self._left = sum(files.values())
        self._all = self._left
        self._changed = asyncio.Event()
        # One: outputs are written one after the other, and never by the thread that keeps the engine busy.
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="output")

    async def feed(self, tasks: asyncio.TaskGroup) -> None:
        for each, seconds in self._files.items():
            while self._count and not self._has_room(seconds):
                self._changed.clear()
                await self._changed.wait()
            self._count += 1
            self._seconds += seconds
            tasks.create_task(self._one(each, seconds))

    def close(self) -> None:
        """Let the last output be written as a whole."""
        self._writer.shutdown(wait=True)

    def _has_room(self, seconds: float) -> bool:
        return self._count < self._room.files and self._seconds + seconds <= self._room.seconds

    async def _one(self, each: Input, seconds: float) -> None:
        try:
            outcome = await self._worker.run(each)
            await self._write(partial(self._output.write, each, outcome))
            self._totals.done += 1
            self._totals.audio_seconds += outcome.duration
        except FileError as error:
            await self._write(partial(self._output.fail, each, error))
            self._totals.failed += 1
            self._display.say(progress.failed(each, error))
        finally:
            self._count -= 1
            self._seconds -= seconds
            self._left -= seconds
            self._changed.set()
            self._totals.run_seconds = time.perf_counter() - self._started
            self._display.show(self._totals, self._time_left())

    async def _write(self, write: Callable[[], None]) -> None:
        """Write to the end, even where the run is stopped meanwhile."""
        await asyncio.get_running_loop().run_in_executor(self._writer, write)

    def _time_left(self) -> float:
        done = self._all - self._left
        return self._totals.run_seconds / done * self._left if done > 0 else float("nan")


def _first(errors: BaseExceptionGroup[Exception]) -> Exception:
    first = errors.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
