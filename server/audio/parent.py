"""The server's end of one process that decodes: starts it, gives it files, and replaces it when it fails."""

from __future__ import annotations

import fcntl
import io
import logging
import os
import shutil
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
from server.audio.clips import ClipHold, ClipWriter
from server.audio.decode import AudioFile, Bounds
from server.audio.decoders import AUDIO_PER_SECOND, TimeLimit
from server.audio.protocol import GO_ON, MAX_MESSAGE, READY, REFUSED, ROOM_SAMPLES, TAKEN, Job
from server.errors import (
    ApiError,
    AudioEmptyError,
    AudioNotFiniteError,
    AudioTooLongError,
    AudioTooShortError,
    AudioTruncatedError,
    AudioUndecodableError,
    DecoderUnavailableError,
    ShuttingDownError,
    StorageError,
)
from server.memory import ReleasedError
from server.spool import Part

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
# Of a file in memory at a time.
COPY_BYTES = 2**20
# All that a process needs of the environment: there may be secrets in the rest.
ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL")
# numpy's linear algebra, which decoding does not use, would start a thread for each core.
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
CHILD = "server.audio.child"
ERRORS: dict[str, type[ApiError]] = {
    kind.code: kind
    for kind in (
        AudioEmptyError,
        AudioNotFiniteError,
        AudioTooLongError,
        AudioTooShortError,
        AudioTruncatedError,
        AudioUndecodableError,
        StorageError,
    )
}


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Made(_Message):
    samples: Annotated[int, Field(ge=0, le=ROOM_SAMPLES)]
    is_last: bool


class _Failed(_Message):
    code: str
    message: str


_MESSAGE: TypeAdapter[_Made | _Failed] = TypeAdapter(_Made | _Failed)


class Decoder:
    """One process, or the one that took its place. Only `end` may be called while another thread uses it."""

    def __init__(self, seconds: float) -> None:
        """Start the process; one file may take `seconds` and what its length adds: see TimeLimit. Raises OSError."""
        self._seconds = seconds
        self._start_seconds = min(seconds + START_SECONDS, MAX_START_SECONDS)
        self._process: _Process | None = None
        self._has_ended = False
        self._lock = threading.Lock()  # no process starts after `end`
        self._start()

    def decode(self, file: AudioFile, bounds: Bounds, hold: ClipHold) -> Clip:
        """Return the clip of `file`, which server.audio.decode.decode gives block by block; it is taken from `hold`.

        Raises AudioUndecodableError where two processes crash with it, AudioTimeoutError, DecoderUnavailableError, and
        what decoding and `hold` raise.
        """
        try:
            with ExitStack() as files:
                descriptor, start, size = _on_disk(file) or _in_memory(file, files)
                room = _memory_file(files)
                os.ftruncate(room, 4 * ROOM_SAMPLES)
                # What is mapped here must stay: who reads beyond the end of a file is killed.
                fcntl.fcntl(room, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
                seconds = self._seconds + bounds.capacity / bounds.sample_rate / AUDIO_PER_SECOND
                return self._run(Job(bounds, start, size, seconds), (descriptor, room), hold)
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

    def _run(self, job: Job, descriptors: tuple[int, int], hold: ClipHold) -> Clip:
        """Return the clip that the process made of `job`, or the next one if it crashed."""
        for _ in range(MAX_CRASHES):
            process = self._give(job, descriptors, hold)
            clip, limit = hold.new(), TimeLimit(self._seconds, job.bounds.sample_rate)
            try:
                process.answer(job, descriptors[1], clip, limit)
            except TimeoutError:
                self._replace(process, "a file took too long")
                raise limit.error() from None
            except OSError as error:
                self._replace(process, f"a file broke it: {error}")
                clip.discard()
            else:
                return clip.clip()
        raise AudioUndecodableError("the audio cannot be decoded: the decoder crashed")

    def _give(self, job: Job, descriptors: Sequence[int], hold: ClipHold) -> _Process:
        """Hand `job` to the process, or to a new one for as long as they end or hang before they take it.

        Raises OSError where none takes it, ShuttingDownError, and ReleasedError when nobody waits any more.
        """
        end = time.monotonic() + self._start_seconds
        for _ in range(MAX_STARTS):
            hold.check()
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

    def give(self, job: Job, descriptors: Sequence[int], seconds: float) -> None:
        """Hand over `job`. Raises OSError, also where the process is not ready in `seconds`, or does not take it."""
        if not self._is_ready:
            if self._receive(seconds) != READY:
                raise ConnectionError("it is not ready")
            self._is_ready = True
        socket.send_fds(self._connection, [job.to_bytes()], list(descriptors))
        if self._receive(TAKE_SECONDS) != TAKEN:
            raise ConnectionError("it talks nonsense")

    def answer(self, job: Job, room: int, clip: ClipWriter, limit: TimeLimit) -> None:
        """Write to `clip` what the process puts into `room`, until it has nothing more.

        Raises the error that it found, what `clip` does, TimeoutError, or OSError if it crashed or talks nonsense.
        """
        samples, is_last = 0, False
        while not is_last:
            message = _understand(self._receive(limit.left))
            if isinstance(message, _Failed):
                raise ERRORS[message.code](message.message)
            samples, is_last = samples + message.samples, message.is_last
            if samples > job.bounds.capacity or (is_last and samples < job.bounds.min_samples):
                raise ConnectionError("it says that it has made a clip of impossible length")
            self._take(room, message.samples, clip)
            limit.add(message.samples)
            if not is_last:
                self._connection.send(GO_ON)

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

    def _take(self, room: int, samples: int, clip: ClipWriter) -> None:
        block = np.empty(samples, np.float32)
        os.preadv(room, [block.data], 0)  # all of it: it has been sealed
        try:
            clip.write(block)
        except (ApiError, ReleasedError):
            self._connection.send(REFUSED)  # it drops the job without an answer
            raise


def _unavailable(error: OSError) -> DecoderUnavailableError:
    logger.error("a file cannot be given to a process that decodes: %s", error)
    return DecoderUnavailableError("no decoder can be started", retry_after=RETRY_SECONDS)


def _understand(message: bytes) -> _Made | _Failed:
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


def _on_disk(file: AudioFile) -> tuple[int, int, int] | None:
    """Return the descriptor of what `file` reads, where it begins there, and its bytes; None if it is in memory."""
    if isinstance(file, Part):
        return file.fileno(), file.start, file.size
    try:
        return file.fileno(), 0, os.fstat(file.fileno()).st_size
    except io.UnsupportedOperation:
        return None


def _in_memory(file: AudioFile, files: ExitStack) -> tuple[int, int, int]:
    """Copy `file` to where another process can read it; return as _on_disk does."""
    descriptor = _memory_file(files)
    with os.fdopen(descriptor, "wb", closefd=False) as copy:
        shutil.copyfileobj(file, copy, COPY_BYTES)
    return descriptor, 0, os.fstat(descriptor).st_size
