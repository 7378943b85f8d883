"""A server of a peer as a process of its own: started, waited for, and ended with all that it has started."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load import drive
from benchmarks.load.client import HOST, Answer, Client, Request
from benchmarks.load.process import tree
from benchmarks.machine import ROOT
from benchmarks.peers.environments import Environment, environment

SCRIPTS = "benchmarks.peers.servers.scripts"
LOOK_SECONDS = 0.2
STOPPED_WITHIN_SECONDS = 15.0
OK = drive.OK
SAID = 300  # characters of what a server has said last


class ServerFailedError(RuntimeError):
    """A server did not start, or did not answer: why, on a line."""


@dataclass(frozen=True)
class Running:
    """A server that has answered."""

    port: int
    pid: int
    ready_seconds: float  # from its start to the first answer


@contextmanager
def running(
    where: Environment,
    script: str,
    options: Sequence[str],
    threads: int,
    settings: Mapping[str, str],
    first: Request,
    seconds: float,
) -> Iterator[Running]:
    """Run `script` in the environment `where` until the end of a block, which begins when `first` has been answered.

    `settings` are environment variables. ServerFailedError where that takes longer than `seconds`.
    """
    port = free_port()
    command = [str(where.python), "-m", f"{SCRIPTS}.{script}", *options, f"--port={port}", f"--threads={threads}"]
    # A short name, since sockets with paths may be below it.
    with tempfile.TemporaryDirectory(prefix="peer-", ignore_cleanup_errors=True) as folder:
        log, begin = Path(folder, "log"), time.monotonic()
        with log.open("wb") as said:
            process = subprocess.Popen(
                command,
                stdout=said,
                stderr=said,
                cwd=ROOT,
                env=environment(threads, TMPDIR=folder, **settings),
                start_new_session=True,  # an interrupt from the terminal is for this process, which then ends the other
            )
        try:
            if not answers(process, port, first, begin + seconds):
                raise ServerFailedError(_why(process, log, seconds))
            yield Running(port, process.pid, time.monotonic() - begin)
        finally:
            end(process)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    return port


def answers(process: subprocess.Popen[bytes], port: int, first: Request, deadline: float) -> bool:
    """Ask `first` until it is answered; False where the process has ended, or at the `deadline` of time.monotonic."""
    while process.poll() is None and (left := deadline - time.monotonic()) > 0:
        if ask(port, first, left).status == OK:
            return True
        time.sleep(LOOK_SECONDS)
    return False


def ask(port: int, request: Request, seconds: float) -> Answer:
    """Ask one server once."""

    async def once() -> Answer:
        client = Client(port, timeout=seconds)
        try:
            return await client.ask(request)
        finally:
            client.close()

    return drive.run(once)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process, and then whatever of those below it is still there, sessions of their own included."""
    family = list(tree(process.pid))  # once their parent is gone nobody can tell whose they were
    _signal(os.kill, process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOPPED_WITHIN_SECONDS)
    _signal(os.killpg, process.pid, signal.SIGKILL)
    for pid in family[1:]:
        if _is_of(pid, family):
            _signal(os.kill, pid, signal.SIGKILL)
    process.wait()


def _why(process: subprocess.Popen[bytes], log: Path, seconds: float) -> str:
    """Say how a server failed, with the end of the last line that it printed."""
    status = process.poll()
    how = f"no answer within {seconds:g} s" if status is None else f"it ended with status {status}"
    said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return f"{how}{f': {said[-1].strip()[-SAID:]}' if said else ''}"


def _is_of(pid: int, family: Sequence[int]) -> bool:
    """Whether a process has not ended, nor its number gone to somebody else: its session is of one of the `family`."""
    try:
        return os.getsid(pid) in family
    except ProcessLookupError:
        return False


def _signal(send: Callable[[int, int], None], pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        send(pid, number)
