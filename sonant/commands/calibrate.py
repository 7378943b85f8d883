"""`sonant calibrate`: how an engine runs best on this host, measured and kept for the server."""

from __future__ import annotations

import argparse
import os
import sys
import threading
from pathlib import Path

from sonant.commands import forms
from sonant.commands.parsing import NEEDS_SERVE, Commands, fail, seconds, threads

# With an engine of a million parameters enough for 25 rounds, after which the medians stay where they are.
DEFAULT_SECONDS = 60.0
# In the background what others do comes first; at the lowest of priorities, 19, a busy host would let it do nothing.
NICENESS = 10


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser("calibrate", help="measure how an engine runs best on this host, for the server")
    parser.add_argument("engine", type=Path, help="the engine's folder")
    forms.add(parser)
    forms.add_max_error(parser)
    forms.add_gpu(parser)
    parser.add_argument("--threads", type=threads, default=0, help="only with so many, if the server is set to them")
    parser.add_argument("--workers", type=threads, default=0, help="only so many batches at a time, likewise")
    parser.add_argument("--seconds", type=seconds, default=DEFAULT_SECONDS, help="time to take, about (default: 60)")
    parser.add_argument("--cache", type=Path, help="where the result is kept (default: where the server looks for it)")
    # For the server: gives way to all others, ends with its standard input, and prints the entry without keeping it.
    parser.add_argument("--attached", action="store_true", help=argparse.SUPPRESS)
    parser.set_defaults(run=_run, needs=NEEDS_SERVE)


def _run(arguments: argparse.Namespace) -> int:
    from engines.engine import Engine
    from engines.errors import EngineError
    from server.calibration.cache import Cache, Entry, key_of
    from server.calibration.race import measure
    from server.settings import default_cache
    from sonant.terminal import print_measured, steps

    if arguments.attached:
        _attach()
    cache = Cache(arguments.cache or default_cache())
    options = forms.options(arguments)
    try:
        key = key_of(Engine(arguments.engine, options=options), options, arguments.workers)
        if arguments.attached:
            measured = measure(arguments.engine, options, arguments.workers, arguments.seconds)
            print(Entry(key=key, calibration=measured.calibration).model_dump_json())
            return 0
        with steps() as progress:
            measured = measure(arguments.engine, options, arguments.workers, arguments.seconds, progress)
        cache.write(key, measured.calibration)
    except (EngineError, OSError) as error:
        return fail(error)
    print_measured(measured)
    print(f"{measured.calibration}\nKept in {cache.path(key)}")
    return 0


def _attach() -> None:
    os.nice(NICENESS)
    threading.Thread(target=_end_with_stdin, daemon=True).start()


def _end_with_stdin() -> None:
    """End the process when whoever holds the other end of standard input is gone, however it ended."""
    while os.read(sys.stdin.fileno(), 1):  # not through a buffer, whose lock would outlive the interpreter
        pass
    os._exit(1)
