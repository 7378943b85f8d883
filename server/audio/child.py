"""The process that decodes: one file after the other, within limits, for as long as its server lives. Linux only.

It imports only what decoding needs.
"""

from __future__ import annotations

import ctypes
import json
import math
import mmap
import os
import resource
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from server.audio.decode import decode
from server.audio.protocol import GRANT, GRANTED, MAX_ERROR_LETTERS, MAX_MESSAGE, READY, TAKEN, Job
from server.errors import AudioError, AudioUndecodableError

# Beside the file, a copy of it and the clip, in bytes: what libsndfile and its codecs allocate for one file. They take
# less than 20 MiB for each file of the tests; a header of Vorbis can ask for more than that.
WORKING_BYTES = 256 * 2**20
# Standard streams, the socket, the two descriptors of a job and what maps them; and as many again.
MAX_DESCRIPTORS = 16
# Of <sys/prctl.h>.
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38


class _RefusedError(Exception):
    """The server does not want the clip any more."""


def main() -> None:
    """Decode what comes over the socket whose descriptor is the first argument, until the server closes it."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    _confine()
    connection.send(READY)
    while True:
        message, descriptors, _, _ = socket.recv_fds(connection, MAX_MESSAGE, 2)
        if not message:
            return
        connection.send(TAKEN)
        try:
            answer = _answer(connection, Job.from_bytes(message), *descriptors)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        if answer is not None:
            connection.send(json.dumps(answer).encode())


def _confine() -> None:
    """Die with the server, and only with it: its signals are sent to the whole group. Give up what is not needed.

    Errors of Python are still printed, but not what codecs print about each damaged file.
    """
    sys.stderr = os.fdopen(os.dup(2), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    libc = ctypes.CDLL(None, use_errno=True)
    for option, value in ((PR_SET_PDEATHSIG, signal.SIGKILL), (PR_SET_NO_NEW_PRIVS, 1)):
        if libc.prctl(option, value, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (MAX_DESCRIPTORS, MAX_DESCRIPTORS))


def _answer(connection: socket.socket, job: Job, file: int, room: int) -> dict[str, Any] | None:
    """Decode a file into `room` and return the answer; None if the server does not want it."""
    _limit(job)
    try:
        clip = np.frombuffer(mmap.mmap(room, 4 * job.bounds.capacity), np.float32)
        data = os.pread(file, job.size, 0)
        samples = len(decode(data, job.bounds, _Taking(connection), clip))
    except _RefusedError:
        return None
    except MemoryError:
        return _error(AudioUndecodableError("the audio cannot be decoded within the memory that one file may take"))
    except AudioError as error:
        return _error(error)
    return {"samples": samples}


def _error(error: AudioError) -> dict[str, Any]:
    return {"code": error.code, "message": error.message[:MAX_ERROR_LETTERS]}


def _limit(job: Job) -> None:
    """Bound what the next file may take, from what the process has taken so far; beyond it the process dies."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    size = pages * resource.getpagesize() + WORKING_BYTES + 2 * job.size + 4 * job.bounds.capacity
    seconds = math.ceil(time.process_time() + job.seconds) + 1
    for kind, limit in ((resource.RLIMIT_AS, size), (resource.RLIMIT_CPU, seconds)):
        resource.setrlimit(kind, (limit, resource.getrlimit(kind)[1]))


class _Taking:
    """Asks the server for memory, ahead of what is needed."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._granted = 0

    def __call__(self, size: int) -> None:
        """Take `size` bytes; raises _RefusedError."""
        self._granted -= size
        if self._granted < 0:
            more = GRANT * math.ceil(-self._granted / GRANT)
            self._connection.send(json.dumps({"take": more}).encode())
            if self._connection.recv(MAX_MESSAGE) != GRANTED:
                raise _RefusedError
            self._granted += more
