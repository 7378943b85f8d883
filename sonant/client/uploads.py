"""Audio on its way to a server: a path, bytes, a file object or an array -> pieces of a body, never read as a whole."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sonant.client.errors import UploadError

Audio: TypeAlias = str | os.PathLike[str] | bytes | BinaryIO | NDArray[Any]

# Read and sent at a time.
PIECE_BYTES = 1 << 18
# Of what the fields of a WAV file can count.
MAX_WAV_BYTES = 2**32 - 1
# What the server reads; an array with more is the wrong way round.
MAX_CHANNELS = 64
# Format tags of WAV, by what they hold.
PCM, IEEE_FLOAT = 1, 3


@dataclass(frozen=True)
class Upload:
    """A body: `pieces` begins it anew each time. `size` in bytes is None where only reading tells it.

    `is_repeatable`: it can be sent twice.
    """

    pieces: Callable[[], Iterator[bytes]]
    size: int | None
    is_repeatable: bool = True

    @classmethod
    def of(cls, audio: Audio, sample_rate: int | None = None) -> Upload:
        """Return the body for `audio`; `sample_rate` in Hz is that of an array, and only of one.

        A string is a path. An array is float [samples] or [samples, channels] in [-1, 1], or int16. Raises UploadError.
        """
        if isinstance(audio, np.ndarray):
            return _of_array(audio, sample_rate)
        if sample_rate is not None:
            raise UploadError("'sample_rate' is of arrays: a file says its own")
        if isinstance(audio, bytes):
            return cls(lambda: _of_bytes(memoryview(audio)), len(audio))
        if isinstance(audio, str | os.PathLike):
            return _of_path(Path(audio))
        if callable(getattr(audio, "read", None)):
            return _of_file(audio)
        raise UploadError(f"audio is a path, bytes, a file or an array, not {type(audio).__name__}")


def _of_path(path: Path) -> Upload:
    if not path.is_file():
        raise UploadError(f"there is no file {path}")
    size = path.stat().st_size

    def pieces() -> Iterator[bytes]:
        try:
            file = path.open("rb")
        except OSError as error:
            raise UploadError(f"{path} cannot be read: {error.strerror}") from error
        with file:
            yield from _read(file, size)

    return Upload(pieces, size)


def _of_file(file: BinaryIO) -> Upload:
    """Return what is left of `file`; one that cannot go back, such as a pipe, is sent once."""
    if isinstance(file, io.TextIOBase):
        raise UploadError("the file was opened as text: open it with 'rb'")
    if not file.seekable():
        return Upload(lambda: _read(file, None), None, is_repeatable=False)
    start = file.tell()
    size = file.seek(0, os.SEEK_END) - start
    file.seek(start)

    def pieces() -> Iterator[bytes]:
        file.seek(start)
        yield from _read(file, size)

    return Upload(pieces, size)


def _of_array(samples: NDArray[Any], sample_rate: int | None) -> Upload:
    if sample_rate is None or sample_rate <= 0 or not float(sample_rate).is_integer():
        raise UploadError("an array needs its 'sample_rate' in Hz, a whole number")
    if samples.ndim not in (1, 2) or (samples.ndim == 2 and samples.shape[1] > MAX_CHANNELS):
        raise UploadError(f"an array of audio is [samples] or [samples, channels], not of shape {samples.shape}")
    if samples.dtype.kind == "f":
        tag, data = IEEE_FLOAT, np.ascontiguousarray(samples, "<f4")
    elif samples.dtype == np.int16:
        tag, data = PCM, np.ascontiguousarray(samples, "<i2")
    else:
        raise UploadError(f"an array of audio is float in [-1, 1] or int16, not {samples.dtype}")
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    header = _wav_header(tag, channels, int(sample_rate), data.itemsize, data.nbytes)

    def pieces() -> Iterator[bytes]:
        yield header
        yield from _of_bytes(data.reshape(-1).view(np.uint8).data)

    return Upload(pieces, len(header) + data.nbytes)


def _wav_header(tag: int, channels: int, rate: int, width: int, size: int) -> bytes:
    """Return what stands before `size` bytes of samples that take `width` bytes each."""
    block = channels * width
    layout = struct.pack("<HHIIHHH", tag, channels, rate, rate * block, block, 8 * width, 0)
    chunks = b"fmt " + struct.pack("<I", len(layout)) + layout
    chunks += b"fact" + struct.pack("<II", 4, size // block) + b"data"
    total = len(b"WAVE") + len(chunks) + 4 + size
    if total > MAX_WAV_BYTES:
        raise UploadError(f"the array takes {size} bytes, which no WAV file holds: send it as a file of another format")
    return b"RIFF" + struct.pack("<I", total) + b"WAVE" + chunks + struct.pack("<I", size)


def _of_bytes(data: memoryview) -> Iterator[bytes]:
    for start in range(0, len(data), PIECE_BYTES):
        yield bytes(data[start : start + PIECE_BYTES])


def _read(file: BinaryIO, size: int | None) -> Iterator[bytes]:
    """Read `size` bytes, or all. One that has become shorter ends the call: the server was told its size."""
    left = size
    while left is None or left > 0:
        try:
            piece = file.read(PIECE_BYTES if left is None else min(PIECE_BYTES, left))
        except OSError as error:
            raise UploadError(f"the file cannot be read: {error.strerror}") from error
        if not piece:
            break
        yield piece
        left = None if left is None else left - len(piece)
    if left:
        raise UploadError(f"the file has become {left} bytes shorter while it was sent")
