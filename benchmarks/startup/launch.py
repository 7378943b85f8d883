"""A server from the start of its process on: when it listens, and when it is ready."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import BinaryIO

from benchmarks.load.client import HOST

STARTED_WITHIN_SECONDS = 300.0
STOPPED_WITHIN_SECONDS = 60.0
POLL_SECONDS = 0.005  # how exact the times are; asking more often would take processor time from the server
OK = 200


@dataclass(frozen=True)
class Launch:
    """A server that starts."""

    port: int
    process: subprocess.Popen[bytes]
    begin: float  # in seconds of time.perf_counter
    log_file: BinaryIO

    def listening(self) -> float:
        """Wait until it takes connections, and return the seconds since its start. Raises ValueError as `ready`."""
        while True:
            with suppress(OSError), socket.create_connection((HOST, self.port)):
                return time.perf_counter() - self.begin
            self._wait()

    def ready(self) -> float:
        """Wait until every model is loaded and verified, and return the seconds since the process started.

        Raises ValueError with the end of its log where that does not happen.
        """
        while True:
            with suppress(OSError, HTTPException), closing(HTTPConnection(HOST, self.port)) as connection:
                connection.request("GET", "/health/ready")
                if connection.getresponse().status == OK:
                    return time.perf_counter() - self.begin
            self._wait()

    @property
    def log(self) -> str:
        """What it has printed so far."""
        number = self.log_file.fileno()
        # Not `seek` and `read`: the process writes where this file stands.
        return os.pread(number, os.fstat(number).st_size, 0).decode()

    def _wait(self) -> None:
        """Let some time pass; ValueError where there is no hope."""
        if self.process.poll() is not None or time.perf_counter() - self.begin > STARTED_WITHIN_SECONDS:
            raise ValueError(f"the server did not become ready: {self.log[-1000:]}")
        time.sleep(POLL_SECONDS)


@contextmanager
def launched(
    engines: Mapping[str, Path], threads: int, settings: Mapping[str, str], environment: Mapping[str, str] | None = None
) -> Iterator[Launch]:
    """Start a server of `engines` by name with `settings`, on a free port; end it in the end."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as log, socket.socket() as probe:
        for name, engine in engines.items():
            Path(folder, name).symlink_to(engine.resolve())
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
        probe.close()
        command = [sys.executable, "-m", "sonant.cli", "serve", f"--models={folder}", f"--port={port}"]
        variables = {f"SONANT_{name.upper()}": value for name, value in settings.items()}
        begin = time.perf_counter()
        process = subprocess.Popen(
            [*command, f"--threads={threads}"],
            env=os.environ | variables | dict(environment or {}),
            stdout=log,
            stderr=log,
        )
        try:
            yield Launch(port, process, begin, log)
        finally:
            process.terminate()
            try:
                process.wait(STOPPED_WITHIN_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
