"""What TensorRT says, which returns None or False where something fails and writes the reason to its log."""

from __future__ import annotations

import logging
import re
import threading

import tensorrt as trt

from engines.errors import EngineError, EngineInvalidError, OutOfMemoryError

logger = logging.getLogger("engines.tensorrt")

# How TensorRT and CUDA say that memory was short.
NO_MEMORY = re.compile(r"out ?of ?memory|OutOfMemory|insufficient memory|could not be allocated|alloc\w* failed", re.I)
LONGEST = 300  # characters of a message that go into an error
LEVELS = {
    trt.ILogger.Severity.INTERNAL_ERROR: logging.ERROR,
    trt.ILogger.Severity.ERROR: logging.ERROR,
    trt.ILogger.Severity.WARNING: logging.WARNING,
    trt.ILogger.Severity.INFO: logging.DEBUG,
    trt.ILogger.Severity.VERBOSE: logging.NOTSET,
}


class Log(trt.ILogger):  # type: ignore[misc, unused-ignore]  # a class of no type where TensorRT is not installed
    """Passes what TensorRT says to Python's logging, and keeps its errors. TensorRT may call it from any thread."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self._lock = threading.Lock()
        self._errors: list[str] = []

    def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
        """Take one message."""
        level = LEVELS[severity]
        if level == logging.NOTSET:
            return
        logger.log(level, "%s", msg)
        if level == logging.ERROR:
            with self._lock:
                self._errors.append(msg)

    def forget(self) -> None:
        """Forget the errors so far."""
        with self._lock:
            self._errors.clear()

    def error(self, what: str, advice: str) -> EngineError:
        """Return the error that `what` failed, with the first reason given since `forget` was called."""
        with self._lock:
            said = " ".join((self._errors or ["TensorRT gives no reason"])[0].split())[:LONGEST]
            short = any(NO_MEMORY.search(message) for message in self._errors)
        if short:
            return OutOfMemoryError(f"not enough memory: {what} ({said})")
        return EngineInvalidError(f"{what} ({said}); {advice}")
