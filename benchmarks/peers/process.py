"""A contestant in a process of its own, which stands still while it is not its turn.

What it says is that of `scripts/protocol.py`.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.machine import ROOT
from benchmarks.peers.environments import Environment, environment

SCRIPTS = "benchmarks.peers.scripts"
STOPPED_WITHIN_SECONDS = 10.0


class ContestantError(RuntimeError):
    """A contestant could not be loaded, failed at its work, or took too long: why, on a line."""


class Process:
    """A contestant's process; ContestantError where it does not do what it is asked for."""

    def __init__(
        self, where: Environment, script: str, options: dict[str, Any], log: Path, settings: dict[str, str]
    ) -> None:
        """Start `script` with `options` in the environment `where`; what it prints goes to `log`.

        `settings` are environment variables.
        """
        self._log = log
        command = [str(where.python), "-m", f"{SCRIPTS}.{script}", json.dumps(options)]
        with log.open("wb") as said:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                cwd=ROOT,
                env=environment(options["threads"], **settings),
                start_new_session=True,  # with what it starts, such as a compiler, it is stopped and goes on as one
            )
        self._unread = b""

    @property
    def pid(self) -> int:
        """The process, and the group of what it starts."""
        return self._process.pid

    def ready(self, seconds: float) -> float:
        """Wait until the model is loaded, no longer than `seconds`; return how many it took."""
        return float(self._answer(seconds)["seconds"])

    def run(self, clips: Path, padded: bool, seconds: float, keep: Path | None = None) -> float:
        """Return the seconds that the clips of a file took, which may be no more than `seconds`."""
        self._signal(signal.SIGCONT)
        request = {"run": str(clips), "padded": padded, "keep": str(keep) if keep else None}
        if self._process.stdin is None:
            raise ContestantError("it has no input")
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except (OSError, ValueError):  # it has ended, or was closed
            raise ContestantError(self._ended()) from None
        return float(self._answer(seconds)["seconds"])

    def close(self) -> None:
        """End the process and what it has started."""
        self._signal(signal.SIGKILL)
        self._process.wait(STOPPED_WITHIN_SECONDS)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()

    def __enter__(self) -> Self:
        """Use it until the end of a block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def _stop(self) -> None:
        """Let it stand still, and wait until it does: its threads may spin for a while after their work."""
        self._signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process.poll() is None:
            os.killpg(self.pid, number)

    def _answer(self, seconds: float) -> dict[str, Any]:
        line = self._line(time.monotonic() + seconds)
        if line is None:
            self.close()
            raise ContestantError(f"it took longer than {seconds:g} s")
        if not line:
            raise ContestantError(self._ended())
        answer: dict[str, Any] = json.loads(line)
        self._stop()
        if "failed" in answer:
            raise ContestantError(answer["failed"])
        return answer

    def _line(self, deadline: float) -> bytes | None:
        """Return the next line of its output: nothing at its end, None at the deadline."""
        if self._process.stdout is None:
            raise ContestantError("it has no output")
        with selectors.DefaultSelector() as ready:
            ready.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._unread:
                if not ready.select(max(0.0, deadline - time.monotonic())):
                    return None
                more = os.read(self._process.stdout.fileno(), 65536)
                if not more:
                    return b""
                self._unread += more
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def _ended(self) -> str:
        """Say how it ended: its status, and the last line that it printed."""
        status = self._process.wait(STOPPED_WITHIN_SECONDS)
        said = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        how = f"signal {-status}" if status < 0 else f"status {status}"
        return f"it ended with {how}{f': {said[-1].strip()}' if said else ''}"[:300]
