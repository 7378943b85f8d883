"""File -> audio, block by block: decoded by libsndfile, mixed to mono, resampled by soxr.

It is bounded, whatever the file says of itself. It imports nothing of the web framework, so that the processes that
decode stay small.
"""

from __future__ import annotations

import io
import os
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from server.errors import (
    AudioEmptyError,
    AudioNotFiniteError,
    AudioTooLongError,
    AudioTooShortError,
    AudioTruncatedError,
    AudioUndecodableError,
    StorageError,
)

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from engines.manifest import Manifest

# A file that is open, and in which places can be sought: of the system, of a Spool, or io.BytesIO.
AudioFile = io.RawIOBase | io.BufferedIOBase

# Values decoded at a time, over all channels: 256 KiB.
BLOCK_VALUES = 1 << 16
MAX_CHANNELS = 64
# Of 16 bits: the full scale is 1.
SHORT_STEP = np.float32(2**-15)
# DXD and its multiples go up to 768 kHz; below 1 kHz there is no speech, and each byte would become 16 samples or more.
SAMPLE_RATES_HZ = range(1_000, 768_001)
# Float files may exceed 1, by a factor 32768 where somebody forgot to scale. Far beyond, squares overflow float32.
MAX_AMPLITUDE = 1e6
LONGEST_AT_ONCE = "the longest that the model takes at once: longer clips are cut into windows with windows=auto"
# Containers that state how many frames follow. Others estimate it, or are written to pipes that state nonsense.
EXACT_FORMATS = frozenset({"FLAC"})
# What libsndfile gives for a length that is not stated (SF_COUNT_MAX).
UNKNOWN_FRAMES = 2**63 - 1
# The farthest place in a file that there can be.
MAX_PLACE = 2**63 - 1


@dataclass(frozen=True)
class Bounds:
    """What a clip must be: its sample rate in Hz, and its shortest and longest length in samples at that rate.

    `reason` says whose the longest is.
    """

    sample_rate: int
    min_samples: int
    max_samples: int
    reason: str = "the longest that the server takes"

    @classmethod
    def of(cls, manifest: Manifest, max_seconds: float, windowed: bool = False) -> Bounds:
        """Return the bounds of an engine, with the server's own ceiling in seconds; only that, if it is `windowed`."""
        ceiling = int(max_seconds * manifest.sample_rate)
        if windowed or ceiling < manifest.max_samples:
            return cls(manifest.sample_rate, manifest.min_samples, ceiling)
        return cls(manifest.sample_rate, manifest.min_samples, manifest.max_samples, LONGEST_AT_ONCE)

    @property
    def capacity(self) -> int:
        """Samples that any clip within the bounds has room in: resampling may round its length up."""
        return self.max_samples + 1


class _Reading:
    """A file as libsndfile reads it.

    Damaged headers make it seek to before the beginning. That does nothing here: raised inside its callback, it would
    only be printed. What the system raises is kept, and raised when libsndfile is back.
    """

    def __init__(self, file: AudioFile) -> None:
        self.problem: OSError | None = None
        self._file = file
        self.size = file.seek(0, os.SEEK_END)
        self._place = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        place = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self.size}[whence]
        if 0 <= place <= MAX_PLACE:
            self._place = place
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: WriteableBuffer) -> int:
        if self._place >= self.size:
            return 0
        try:
            self._file.seek(self._place)
            count = self._file.readinto(buffer) or 0
        except OSError as error:
            self.problem = error
            return 0
        self._place += count
        return count


class _Stream(soundfile.SoundFile):  # type: ignore[misc]  # soundfile has no types
    """A sound file that is read from its beginning to its end.

    SoundFile seeks to where it is after each read of a seekable file, which fails in a FLAC that is damaged or does not
    state its length.
    """

    def __init__(self, reading: _Reading) -> None:
        self.reading = reading
        super().__init__(reading)

    def seekable(self) -> bool:
        return False


def decode(file: AudioFile, bounds: Bounds) -> Generator[NDArray[np.float32]]:
    """Yield the audio of `file` as float32 [samples]: the mean of its channels at `bounds.sample_rate`, in blocks.

    A block is read before the next is asked for: its memory is used again. Samples of float files are not clipped.
    Memory stays within a few blocks. Raises the AudioError that says what is wrong, or StorageError where the file
    cannot be read.
    """
    samples = 0
    with _open(file) as stream:
        _check_header(stream)
        for block in _resample(_mono_blocks(stream, bounds), stream.samplerate, bounds.sample_rate):
            samples += len(block)
            yield block
    if samples < bounds.min_samples:
        shortest, length = (count / bounds.sample_rate for count in (bounds.min_samples, samples))
        raise AudioTooShortError(
            f"the audio is {length:.4f} s long, the shortest that the model takes is {shortest:.4f} s"
        )


def _open(file: AudioFile) -> _Stream:
    try:
        reading = _Reading(file)
    except OSError as error:
        raise unreadable(error) from error
    if not reading.size:
        raise AudioEmptyError("the audio is empty: it has 0 bytes")
    try:
        return _Stream(reading)
    except soundfile.LibsndfileError as error:
        _check(reading)
        raise AudioUndecodableError(
            f"the audio cannot be decoded ({error.error_string}); WAV, FLAC, OGG (Vorbis, Opus), MP3 and AIFF are read"
        ) from None


def _check(reading: _Reading) -> None:
    """Raise what the system raised while libsndfile read."""
    if reading.problem is not None:
        raise unreadable(reading.problem) from reading.problem


def unreadable(error: OSError) -> StorageError:
    """Return the error of a file that the system does not read."""
    return StorageError(f"the audio cannot be read: {error.strerror or error}")


def _check_header(file: _Stream) -> None:
    if file.samplerate not in SAMPLE_RATES_HZ:
        low, high = SAMPLE_RATES_HZ[0], SAMPLE_RATES_HZ[-1]
        raise AudioUndecodableError(f"the sample rate is {file.samplerate} Hz; {low} to {high} Hz are read")
    if file.channels > MAX_CHANNELS:
        raise AudioUndecodableError(f"the audio has {file.channels} channels; up to {MAX_CHANNELS} are read")


def _mono_blocks(file: _Stream, bounds: Bounds) -> Iterator[NDArray[np.float32]]:
    """Yield the mean of the channels, block after block, until the file ends or exceeds `bounds.max_samples`."""
    is_short = file.subtype == "PCM_16"  # libsndfile takes longer to scale it to the same numbers
    block = np.empty((BLOCK_VALUES // file.channels, file.channels), np.int16 if is_short else np.float32)
    frames = 0
    while count := _read(file, block, frames):
        values = block[:count] * SHORT_STEP if is_short else block[:count]
        frames += count
        if frames * bounds.sample_rate > bounds.max_samples * file.samplerate:
            longest = bounds.max_samples / bounds.sample_rate
            raise AudioTooLongError(f"the audio is longer than {longest:g} s, {bounds.reason}")
        with np.errstate(over="ignore", invalid="ignore"):  # what comes of it is refused below
            mono = values.mean(axis=1) if file.channels > 1 else values[:, 0]
        if not np.abs(mono).max() <= MAX_AMPLITUDE:  # false for NaN too
            raise AudioNotFiniteError(f"the audio has samples that are NaN, infinite or beyond {MAX_AMPLITUDE:g}")
        yield mono
    if not frames:
        raise AudioEmptyError("the audio is empty: it has 0 samples")
    if file.format in EXACT_FORMATS and frames < file.frames != UNKNOWN_FRAMES:
        raise _truncated(file, frames)


def _read(file: _Stream, block: NDArray[np.float32 | np.int16], frames: int) -> int:
    """Fill `block` and return the number of frames read; `frames` were read before."""
    try:
        count = len(file.read(out=block))
    except soundfile.LibsndfileError as error:
        _check(file.reading)
        if file.format in EXACT_FORMATS:
            raise _truncated(file, frames) from None
        raise AudioUndecodableError(f"the audio cannot be decoded ({error.error_string})") from None
    _check(file.reading)  # it takes an error for the end of the file
    return count


def _truncated(file: _Stream, frames: int) -> AudioTruncatedError:
    seconds = frames / file.samplerate
    return AudioTruncatedError(
        f"the {file.format} stream is cut short or damaged: it breaks off after about {seconds:.2f} s"
    )


def _resample(blocks: Iterator[NDArray[np.float32]], source_hz: int, target_hz: int) -> Iterator[NDArray[np.float32]]:
    """Resample a stream of blocks; the same samples as soxr.resample(quality="HQ") on the whole."""
    if source_hz == target_hz:
        yield from blocks
        return
    stream = soxr.ResampleStream(source_hz, target_hz, 1, dtype="float32", quality="HQ")
    for block in blocks:
        yield stream.resample_chunk(block)
    yield stream.resample_chunk(np.zeros(0, np.float32), last=True)
