"""What the builder is doing, and a way to stop it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, SupportsInt

import tensorrt as trt


class Display(Protocol):
    """What shows the phases of a build. It may be called from any thread, and must not raise."""

    def begin(self, phase: str, parent: str | None, steps: int) -> None:
        """Show a phase of so many steps, which is part of the phase `parent`."""
        ...

    def advance(self, phase: str, steps: int) -> None:
        """Show that so many steps of a phase are done."""
        ...

    def end(self, phase: str) -> None:
        """Show that a phase is over."""
        ...


class Monitor(trt.IProgressMonitor):  # type: ignore[misc, unused-ignore]  # as in engines/runtimes/tensorrt/log.py
    """Passes what the builder reports to a display; stops the builder where `stop` is set."""

    def __init__(self, display: Display, stop: threading.Event) -> None:
        trt.IProgressMonitor.__init__(self)
        self._display, self._stop = display, stop

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: SupportsInt) -> None:
        """Take note of a phase that begins."""
        self._display.begin(phase_name, parent_phase, int(num_steps))

    def step_complete(self, phase_name: str, step: SupportsInt) -> bool:
        """Take note of a step, counted from 0; return whether to go on."""
        self._display.advance(phase_name, int(step) + 1)
        return not self._stop.is_set()

    def phase_finish(self, phase_name: str) -> None:
        """Take note of a phase that ends, perhaps before all of its steps."""
        self._display.end(phase_name)


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """Yield an event that Ctrl-C sets; KeyboardInterrupt is raised when the block is left.

    An exception inside of what the builder calls would end the process.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.signal(signal.SIGINT, lambda *_: stop.set())
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
    if stop.is_set():
        raise KeyboardInterrupt
