"""The server as a process of its own, and what the system says of it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.load.client import HOST

STARTED_WITHIN_SECONDS = 300.0
STOPPED_WITHIN_SECONDS = 60.0
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Usage:
    """What a server has, and what it has used so far; its own processes included."""

    cpu_seconds: float
    resident_bytes: int
    descriptors: int
    threads: int


@dataclass(frozen=True)
class Server:
    """A server that is ready."""

    port: int
    process: subprocess.Popen[bytes]

    @property
    def usage(self) -> Usage:
        """Read /proc."""
        return usage(self.process.pid)


def usage(pid: int) -> Usage:
    """Return what the process `pid` and those below it have and have used, as /proc says."""
    found = [_usage(process) for process in list(tree(pid))]
    return Usage(
        sum(one.cpu_seconds for one in found),
        sum(one.resident_bytes for one in found),
        sum(one.descriptors for one in found),
        sum(one.threads for one in found),
    )


@contextmanager
def serving(engines: Mapping[str, Path], threads: int, settings: Mapping[str, str]) -> Iterator[Server]:
    """Serve `engines` by name with `settings`, on a free port, until the end; ValueError where that fails."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as log:
        for name, engine in engines.items():
            Path(folder, name).symlink_to(engine.resolve())
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            port = probe.getsockname()[1]
        command = [sys.executable, "-m", "sonant.cli", "serve", f"--models={folder}", f"--port={port}"]
        environment = os.environ | {f"SONANT_{name.upper()}": value for name, value in settings.items()}
        process = subprocess.Popen([*command, f"--threads={threads}"], env=environment, stdout=log, stderr=log)
        try:
            if not _becomes_ready(port, process):
                log.seek(0)
                raise ValueError(f"the server did not become ready: {log.read().decode()[-1000:]}")
            yield Server(port, process)
        finally:
            process.terminate()
            try:
                process.wait(STOPPED_WITHIN_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _becomes_ready(port: int, process: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + STARTED_WITHIN_SECONDS
    with httpx.Client(base_url=f"http://{HOST}:{port}") as client:
        while time.monotonic() < deadline and process.poll() is None:
            with suppress(httpx.TransportError):
                if client.get("/health/ready").status_code == httpx.codes.OK:
                    return True
            time.sleep(0.05)
    return False


def tree(pid: int) -> Iterator[int]:
    """Yield `pid` and the processes below it."""
    yield pid
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(FileNotFoundError):  # a thread that has ended
            for child in path.read_text().split():
                yield from tree(int(child))


def _usage(pid: int) -> Usage:
    """Return the usage of one process; nothing, if it has ended."""
    folder = Path(f"/proc/{pid}")
    try:
        fields = (folder / "stat").read_text().rpartition(")")[2].split()  # the name before it may have spaces
        descriptors = len(list((folder / "fd").iterdir()))
    except FileNotFoundError:
        return Usage(0.0, 0, 0, 0)
    # Fields of proc_pid_stat(5); these begin with the third. 16 and 17 are of the processes below it that have ended.
    threads, pages = (int(fields[number - 3]) for number in (20, 24))
    ticks = sum(int(fields[number - 3]) for number in (14, 15, 16, 17))
    return Usage(ticks / TICKS_PER_SECOND, pages * PAGE_BYTES, descriptors, threads)
