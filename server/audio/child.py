"""The process that decodes: one file after the other, within limits, for as long as its server lives. Linux only.

It imports only what decoding needs.
"""

from __future__ import annotations

import ctypes
import io
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
from numpy.typing import NDArray

from server.audio.decode import decode
from server.audio.protocol import GO_ON, MAX_ERROR_LETTERS, MAX_MESSAGE, READY, ROOM_SAMPLES, TAKEN, Job
from server.errors import ApiError, AudioError, AudioUndecodableError, StorageError
from server.spool import Part

# What libsndfile and its codecs allocate for one file, in bytes. They take less than 20 MiB for each file of the tests;
# a header of Vorbis can ask for more than that.
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
    """Decode a file through `room` and return the last answer; None if the server does not want it."""
    _limit(job)
    try:
        samples = _Room(connection, room)
        with io.FileIO(file, closefd=False) as whole, Part(whole, job.start, job.size) as part:
            for block in decode(part, job.bounds):
                samples.write(block)
    except _RefusedError:
        return None
    except MemoryError:
        return _error(AudioUndecodableError("the audio cannot be decoded within the memory that one file may take"))
    except (AudioError, StorageError) as error:
        return _error(error)
    return samples.message(is_last=True)


def _error(error: ApiError) -> dict[str, Any]:
    return {"code": error.code, "message": error.message[:MAX_ERROR_LETTERS]}


def _limit(job: Job) -> None:
    """Bound what the next file may take, from what the process has taken so far; beyond it the process dies."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    size = pages * resource.getpagesize() + WORKING_BYTES
    seconds = math.ceil(time.process_time() + job.seconds) + 1
    for kind, limit in ((resource.RLIMIT_AS, size), (resource.RLIMIT_CPU, seconds)):
        resource.setrlimit(kind, (limit, resource.getrlimit(kind)[1]))


class _Room:
    """Where the server finds the samples; what does not fit waits until it has taken what is there."""

    def __init__(self, connection: socket.socket, descriptor: int) -> None:
        self._connection = connection
        self._room = np.frombuffer(mmap.mmap(descriptor, 4 * ROOM_SAMPLES), np.float32)
        self._samples = 0

    def write(self, block: NDArray[np.float32]) -> None:
        """Append `block`. Raises _RefusedError."""
        while len(block):
            if self._samples == ROOM_SAMPLES:
                self._hand_over()
            free = self._room[self._samples :][: len(block)]
            free[:] = block[: len(free)]
            self._samples += len(free)
            block = block[len(free) :]

    def message(self, *, is_last: bool) -> dict[str, Any]:
        """Return what tells the server of what is there."""
        return {"samples": self._samples, "is_last": is_last}

    def _hand_over(self) -> None:
        self._connection.send(json.dumps(self.message(is_last=False)).encode())
        if self._connection.recv(MAX_MESSAGE) != GO_ON:
            raise _RefusedError
        self._samples = 0
