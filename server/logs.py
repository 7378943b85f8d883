"""Log lines: to be read or as JSON, written by a thread, and no input can forge one.

Every record of the process goes through one handler. A line of JSON has ASCII only; in a line of text, what cannot be
printed is escaped, and what belongs to a record but not into its line, a traceback, follows behind `|` at the margin.
"""

from __future__ import annotations

import json
import logging
import queue
import re
import sys
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

Format = Literal["auto", "text", "json"]
Level = Literal["debug", "info", "warning", "error"]

logger = logging.getLogger(__name__)

# Lines that wait to be written: some megabytes. Beyond them lines are dropped and counted; requests do not wait.
MAX_WAITING = 10_000
# For what waits when the process ends: its standard error may be a pipe that nobody reads any more.
FLUSH_SECONDS = 5.0
# How late a line may be written; nobody reads faster.
GATHER_SECONDS = 0.05
# A field's value that needs no quotes in a line of text.
PLAIN = re.compile(r"[\w./:{}+-]+", re.ASCII)


def configure(format_: Format, level: Level, stream: TextIO = sys.stderr) -> None:
    """Send all records of at least `level`, also warnings and exceptions of threads, to `stream`."""
    as_text = format_ == "text" or (format_ == "auto" and stream.isatty())
    handler = LineHandler(stream)
    handler.setFormatter(TextFormatter() if as_text else JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(True)
    threading.excepthook = _log_exception
    # It warns of each byte of a body that is not multipart: a client could fill the log.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)


class LineHandler(logging.Handler):
    """Writes lines in a thread of its own. `logging.shutdown()`, which runs at exit, waits for what is left."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._lines: queue.SimpleQueue[str | threading.Event] = queue.SimpleQueue()
        self._dropped = 0
        threading.Thread(target=self._write, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Format `record` here, since what it speaks of may change; never raises and never waits."""
        try:
            if self._lines.qsize() >= MAX_WAITING:
                self._dropped += 1
            else:
                self._lines.put(self.format(record) + "\n")
        except Exception:  # an argument does not fit its message
            self._dropped += 1

    def flush(self) -> None:
        """Wait until all is written, but not for ever."""
        written = threading.Event()
        self._lines.put(written)
        written.wait(FLUSH_SECONDS)

    def _write(self) -> None:
        while True:
            waiting = [self._lines.get()]
            # Waking this thread costs a request more than its line does: what comes in the meantime is written with it.
            time.sleep(GATHER_SECONDS)
            with suppress(queue.Empty):
                while True:
                    waiting.append(self._lines.get_nowait())
            with suppress(OSError, ValueError):  # standard error is closed: there is nobody to tell
                self._stream.write("".join(line for line in waiting if isinstance(line, str)))
                self._stream.flush()
            for line in waiting:
                if isinstance(line, threading.Event):
                    line.set()
            if self._dropped:
                dropped, self._dropped = self._dropped, 0
                logger.warning("%d log lines were dropped", dropped)


class JsonFormatter(logging.Formatter):
    """One object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of `record`."""
        entry = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        # DEL is ASCII, and the one control character that JSON does not escape.
        return json.dumps(entry, default=str).replace("\x7f", "\\u007f")


class TextFormatter(logging.Formatter):
    """Lines for people, the fields behind the message."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of `record`, and those of its traceback."""
        parts = [_time(record), f"{record.levelname:<7}", f"{escape(record.name)}:", escape(record.getMessage())]
        parts += [
            f"{name}={_quoted(value)}"
            for name, value in _fields(record).items()
            if value is not None and f"%({name})" not in str(record.msg)  # else the message has it already
        ]
        lines = [" ".join(parts)]
        if record.exc_info:
            lines += [f"  | {escape(line)}" for line in self.formatException(record.exc_info).split("\n")]
        return "\n".join(lines)


def escape(text: str) -> str:
    """Return `text` with everything escaped that ends a line, moves a cursor or reverses the writing."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def _quoted(value: Any) -> str:
    text = str(value)
    return text if PLAIN.fullmatch(text) else json.dumps(text).replace("\x7f", "\\u007f")


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """Return what was given as `extra={"fields": {...}}`."""
    fields: dict[str, Any] = getattr(record, "fields", {})
    return fields


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def _log_exception(failed: threading.ExceptHookArgs) -> None:
    name = failed.thread.name if failed.thread else "?"
    if failed.exc_value is not None:
        logger.error("thread %s failed", name, exc_info=failed.exc_value)
