"""The bytes of a stream -> samples at the engine's rate: the same as those of a file that has them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import soxr

from engines.batch import Clip
from server.audio.decode import MAX_AMPLITUDE
from server.errors import AudioNotFiniteError, AudioTruncatedError
from server.schemas.stream import Encoding

# Little-endian, and what full scale is.
FORMATS: dict[Encoding, tuple[np.dtype[np.int16] | np.dtype[np.float32], float]] = {
    "pcm16": (np.dtype("<i2"), 2.0**15),
    "float32": (np.dtype("<f4"), 1.0),
}
# Less is kept until more comes, since each call of the resampler costs some microseconds: messages may have one byte.
LEAST_SECONDS = 0.01
# What is made at a time, so that whoever takes it can hold the rest back.
BLOCK_SECONDS = 0.5


class Samples:
    """Takes bytes as they come, a sample may be cut between two messages; gives blocks of float32 [samples]."""

    def __init__(self, encoding: Encoding, source_hz: int, target_hz: int) -> None:
        self._type, self._scale = FORMATS[encoding]
        self._least = round(LEAST_SECONDS * source_hz) * self._type.itemsize
        self._block = max(1, round(BLOCK_SECONDS * source_hz)) * self._type.itemsize
        self._rest = b""
        # As server.audio.decode resamples.
        self._stream = (
            soxr.ResampleStream(source_hz, target_hz, 1, dtype="float32", quality="HQ")
            if source_hz != target_hz
            else None
        )

    def feed(self, data: bytes) -> Iterator[Clip]:
        """Yield what `data` completes. Raises AudioNotFiniteError."""
        data = self._rest + data
        complete = len(data) // self._type.itemsize * self._type.itemsize
        if complete < self._least:
            complete = 0
        self._rest = data[complete:]
        for start in range(0, complete, self._block):
            yield self._resample(data[start : min(start + self._block, complete)])

    def end(self) -> Clip:
        """Return what is left. Raises AudioTruncatedError where a sample is not complete, and AudioNotFiniteError."""
        left = len(self._rest) % self._type.itemsize
        if left:
            raise AudioTruncatedError(
                f"the audio ends within a sample: {left} of {self._type.itemsize} bytes are there"
            )
        return self._resample(self._rest, is_last=True)

    def _resample(self, data: bytes, is_last: bool = False) -> Clip:
        samples = np.frombuffer(data, self._type).astype(np.float32) / np.float32(self._scale)
        if samples.size and not np.abs(samples).max() <= MAX_AMPLITUDE:  # false for NaN too
            raise AudioNotFiniteError(f"the audio has samples that are NaN, infinite or beyond {MAX_AMPLITUDE:g}")
        if self._stream is None:
            return samples
        resampled: Clip = self._stream.resample_chunk(samples, last=is_last)
        return resampled
