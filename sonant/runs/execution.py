"""A run from its beginning to its end, however it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, NoReturn

from sonant.runs.destinations import opened
from sonant.runs.errors import RunError, UsageError
from sonant.runs.order import by_length
from sonant.runs.outcomes import Worker
from sonant.runs.progress import Totals, display
from sonant.runs.remote import connected
from sonant.runs.requests import Request
from sonant.runs.run import Room, run

INTERRUPTED, TERMINATED = 128 + signal.SIGINT, 128 + signal.SIGTERM


@dataclass(frozen=True)
class Ended:
    """How a run ended: the exit status, and what to say of it. `is_stopped`: threads may still be busy."""

    status: int
    message: str = ""
    is_stopped: bool = False


def execute(request: Request) -> Ended:
    """Run `request` until it is done, or until a signal; a second signal ends the process at once."""
    totals = Totals(len(request.inputs))
    stop = _Stop()
    try:
        asyncio.run(_execute(request, totals, stop))
    except asyncio.CancelledError:
        return Ended(stop.status, f"{totals}\nstopped: the same command goes on where it was", is_stopped=True)
    except UsageError as error:
        return Ended(2, str(error))
    except BrokenPipeError:  # nobody reads on, such as `head`
        return Ended(1, is_stopped=True)
    except RunError as error:
        return Ended(1, f"{totals}\n{error}", is_stopped=True)
    except OSError as error:
        return Ended(1, f"{totals}\n{error}", is_stopped=True)
    return Ended(1 if totals.failed else 0, str(totals))


async def _execute(request: Request, totals: Totals, stop: _Stop) -> None:
    started = time.perf_counter()
    stop.listen()
    with (
        opened(request.wish, request.form, request.inputs, request.description) as output,
        display(len(request.inputs), quiet=request.quiet) as shown,
    ):
        left = [each for each in request.inputs if not output.is_done(each)]
        totals.before = len(request.inputs) - len(left)
        if left:
            ordered = asyncio.create_task(asyncio.to_thread(by_length, left))  # while the engine is loaded
            async with _worker(request) as (worker, room):
                totals.start_seconds = time.perf_counter() - started
                await run(ordered, worker, room, output, shown, totals)
        output.finish()


@asynccontextmanager
async def _worker(request: Request) -> AsyncIterator[tuple[Worker, Room]]:
    if request.server is not None:
        server = request.server
        async with connected(request.task, request.options, server.url, server.key) as remote:
            yield remote, Room(float("inf"), server.connections)
        return
    from sonant.runs.local import loaded  # the server's own parts, which a client does without

    async with loaded(request.task, request.options, request.settings) as (worker, room):
        yield worker, room


class _Stop:
    """What the signals do: the first one stops the run, so that what is done is kept; the second ends the process."""

    status = INTERRUPTED

    def listen(self) -> None:
        """Stop the task that runs now at the next signal."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None  # noqa: S101  # it is called by one
        for number, status in ((signal.SIGINT, INTERRUPTED), (signal.SIGTERM, TERMINATED)):
            loop.add_signal_handler(number, self._stop, task, status)

    def _stop(self, task: asyncio.Task[Any], status: int) -> None:
        self.status = status
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: os._exit(status))
        task.cancel()


def leave(status: int) -> NoReturn:
    """End the process without waiting for its threads: one that is in a call of the engine cannot be stopped."""
    with suppress(OSError):  # nobody reads on
        sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
