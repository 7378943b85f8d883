"""The server's end of one process that decodes: starts it, gives it files, and replaces it when it fails."""

from __future__ import annotations

import fcntl
import logging
import mmap
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from engines.batch import Clip
from server.audio.decode import Bounds
from server.audio.decoders import took_too_long
from server.audio.protocol import GRANTED, MAX_MESSAGE, READY, REFUSED, TAKEN, Job
from server.errors import (
    ApiError,
    AudioEmptyError,
    AudioError,
    AudioNotFiniteError,
    AudioTooLongError,
    AudioTooShortError,
    AudioTruncatedError,
    AudioUndecodableError,
    DecoderUnavailableError,
    ShuttingDownError,
)
from server.memory import Hold, ReleasedError

logger = logging.getLogger(__name__)

# How long a file may wait for a process that takes it: beyond what it may take itself, and at most. A process starts in
# 0.3 s; this is for a host that has much else to do, and for processes that something kills.
START_SECONDS, MAX_START_SECONDS = 5.0, 30.0
# One that has started takes a file in a millisecond: later, it hangs.
TAKE_SECONDS = 3.0
# Where none starts at all, this many fail in some seconds.
MAX_STARTS = 20
PAUSE_SECONDS = 0.05
# A process that crashes with a file may have been killed by somebody else; a second one was killed by the file.
MAX_CRASHES = 2
RETRY_SECONDS = 1
# A mapped clip keeps a descriptor open (mmap.mmap duplicates it): short clips, of which there are many, are copied
# instead, in 1 ms at most. 65 s of audio at 16 kHz.
MAX_COPY_BYTES = 4 * 2**20
# All that a process needs of the environment: there may be secrets in the rest.
ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL")
# numpy's linear algebra, which decoding does not use, would start a thread for each core.
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
CHILD = "server.audio.child"
ERRORS: dict[str, type[AudioError]] = {
    kind.code: kind
    for kind in (
        AudioEmptyError,
        AudioNotFiniteError,
        AudioTooLongError,
        AudioTooShortError,
        AudioTruncatedError,
        AudioUndecodableError,
    )
}


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Takes(_Message):
    take: Annotated[int, Field(gt=0, le=1 << 40)]  # the hold refuses long before


class _Made(_Message):
    samples: int


class _Failed(_Message):
    code: str
    message: str


_MESSAGE: TypeAdapter[_Takes | _Made | _Failed] = TypeAdapter(_Takes | _Made | _Failed)


class Decoder:
    """One process, or the one that took its place. Only `end` may be called while another thread uses it."""

    def __init__(self, seconds: float) -> None:
        """Start the process; one file may take `seconds`. Raises OSError."""
        self._seconds = seconds
        self._start_seconds = min(seconds + START_SECONDS, MAX_START_SECONDS)
        self._process: _Process | None = None
        self._has_ended = False
        self._lock = threading.Lock()  # no process starts after `end`
        self._start()

    def decode(self, data: bytes, bounds: Bounds, hold: Hold) -> Clip:
        """Return the clip of the file `data`, as server.audio.decode.decode does; its bytes are taken from `hold`.

        Raises AudioUndecodableError where two processes crash with it, AudioTimeoutError, DecoderUnavailableError, and
        what decoding and `hold` raise.
        """
        try:
            with ExitStack() as files:
                file, room = _memory_file(files), _memory_file(files)
                _write(file, data)
                os.ftruncate(room, 4 * bounds.capacity)
                # What is mapped here must stay: who reads beyond the end of a file is killed.
                fcntl.fcntl(room, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
                samples = self._run(Job(bounds, len(data), self._seconds), (file, room), hold)
                return _clip(room, samples)
        except OSError as error:  # no descriptors, no memory, no processes
            raise _unavailable(error) from error

    def end(self) -> None:
        """Kill the process; what it decodes fails, and it is not replaced."""
        with self._lock:
            self._has_ended = True
            if self._process is not None:
                self._process.kill()

    def clean_up(self) -> None:
        """Close what is left after `end`, when no other thread uses it."""
        if self._process is not None:
            self._process.stop()

    def _run(self, job: Job, descriptors: Sequence[int], hold: Hold) -> int:
        """Return the samples of the clip that the process made of `job`, or the next one if it crashed."""
        for _ in range(MAX_CRASHES):
            process = self._give(job, descriptors, hold)
            try:
                return process.answer(job, hold)
            except TimeoutError:
                self._replace(process, "a file took too long")
                raise took_too_long(self._seconds) from None
            except OSError as error:
                self._replace(process, f"a file broke it: {error}")
                hold.take(-process.granted)
        raise AudioUndecodableError("the audio cannot be decoded: the decoder crashed")

    def _give(self, job: Job, descriptors: Sequence[int], hold: Hold) -> _Process:
        """Hand `job` to the process, or to a new one for as long as they end or hang before they take it.

        Raises OSError where none takes it, ShuttingDownError, and ReleasedError when nobody waits any more.
        """
        end = time.monotonic() + self._start_seconds
        for _ in range(MAX_STARTS):
            hold.take(0)
            try:
                process = self._process or self._start()
                # One that does not get ready leaves time for another.
                process.give(job, descriptors, min(self._start_seconds / 2, end - time.monotonic()))
            except OSError as error:
                problem = error
                if self._process is not None:
                    self._replace(self._process, f"it did not take a file: {error}")
            else:
                return process
            if time.monotonic() + PAUSE_SECONDS > end:
                break
            time.sleep(PAUSE_SECONDS)
        raise problem

    def _start(self) -> _Process:
        with self._lock:
            if self._has_ended:
                raise ShuttingDownError("the server is shutting down", retry_after=RETRY_SECONDS)
            self._process = _Process()
            return self._process

    def _replace(self, process: _Process, why: str) -> None:
        self._process = None
        status = process.stop()
        if self._has_ended:
            return
        logger.warning("a decoder is replaced (exit status %d): %s", status, why)
        try:
            self._start()
        except OSError:
            logger.exception("no decoder can be started; the next file tries again")


class _Process:
    """A running server.audio.child."""

    def __init__(self) -> None:
        self._connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            # Where this process finds its modules, it finds the same: `-m` would look into the working directory first.
            code = f"import sys; sys.path[:] = {sys.path!r}; from {CHILD} import main; main()"
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-c", code, str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    env={name: os.environ[name] for name in ENVIRONMENT if name in os.environ} | ONE_THREAD,
                    pass_fds=[theirs.fileno()],
                )
            except BaseException:
                self._connection.close()
                raise
        self._is_ready = False
        self.granted = 0  # bytes that were taken for the file that it has or had last

    def give(self, job: Job, descriptors: Sequence[int], seconds: float) -> None:
        """Hand over `job`. Raises OSError, also where the process is not ready in `seconds`, or does not take it."""
        if not self._is_ready:
            if self._receive(seconds) != READY:
                raise ConnectionError("it is not ready")
            self._is_ready = True
        socket.send_fds(self._connection, [job.to_bytes()], list(descriptors))
        if self._receive(TAKE_SECONDS) != TAKEN:
            raise ConnectionError("it talks nonsense")

    def answer(self, job: Job, hold: Hold) -> int:
        """Return the samples of the clip; answers meanwhile what the process asks for.

        Raises the AudioError that it found, what `hold` does, TimeoutError, or OSError if it crashed or talks nonsense.
        """
        end = time.monotonic() + job.seconds
        self.granted = 0
        while True:
            message = _understand(self._receive(end - time.monotonic()))
            if isinstance(message, _Takes):
                self._grant(message.take, hold)
            elif isinstance(message, _Failed):
                raise ERRORS[message.code](message.message)
            elif not job.bounds.min_samples <= message.samples <= job.bounds.capacity:
                raise ConnectionError("it says that it has made a clip of impossible length")
            else:
                hold.take(4 * message.samples - self.granted)
                return message.samples

    def kill(self) -> None:
        self._process.kill()

    def stop(self) -> int:
        """Kill it if it lives and close what belongs to it; return the exit status."""
        self._process.kill()
        self._connection.close()
        return self._process.wait()

    def _receive(self, seconds: float) -> bytes:
        """Return the next message; raises TimeoutError, or ConnectionError if the process is dead."""
        self._connection.settimeout(max(seconds, 0.001))  # 0 would not wait at all, and raise another error
        message = self._connection.recv(MAX_MESSAGE)
        if not message:
            raise ConnectionError("it died")
        return message

    def _grant(self, size: int, hold: Hold) -> None:
        try:
            hold.take(size)
        except (ApiError, ReleasedError):
            self._connection.send(REFUSED)  # it drops the job without an answer
            raise
        self.granted += size
        self._connection.send(GRANTED)


def _unavailable(error: OSError) -> DecoderUnavailableError:
    logger.error("a file cannot be given to a process that decodes: %s", error)
    return DecoderUnavailableError("no decoder can be started", retry_after=RETRY_SECONDS)


def _understand(message: bytes) -> _Takes | _Made | _Failed:
    try:
        understood = _MESSAGE.validate_json(message)
    except ValidationError:
        raise ConnectionError("it talks nonsense") from None
    if isinstance(understood, _Failed) and understood.code not in ERRORS:
        raise ConnectionError("it names an error that there is not")
    return understood


def _memory_file(files: ExitStack) -> int:
    """Return the descriptor of a file in memory, which `files` closes."""
    descriptor = os.memfd_create("sonant", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    files.callback(os.close, descriptor)
    return descriptor


def _write(descriptor: int, data: bytes) -> None:
    with os.fdopen(descriptor, "wb", closefd=False) as file:
        file.write(data)


def _clip(room: int, samples: int) -> Clip:
    """Return the first `samples` of `room`: a copy if they are few, else mapped until nobody has the array any more."""
    if 4 * samples > MAX_COPY_BYTES:
        return np.frombuffer(mmap.mmap(room, 4 * samples), np.float32)
    clip = np.empty(samples, np.float32)
    os.preadv(room, [clip.data], 0)  # all of it: it has been sealed
    return clip
