"""Bytes -> clip: decoded by libsndfile, mixed to mono, resampled by soxr; bounded, whatever the file says of itself.

It imports nothing of the web framework, so that the processes that decode stay small.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
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
)

if TYPE_CHECKING:
    from engines.batch import Clip
    from engines.manifest import Manifest

# Is told of the bytes of each block of a clip before it is kept; what it raises ends the decoding.
Take = Callable[[int], None]

# Values decoded at a time, over all channels: 256 KiB.
BLOCK_VALUES = 1 << 16
MAX_CHANNELS = 64
# DXD and its multiples go up to 768 kHz; below 1 kHz there is no speech, and each byte would become 16 samples or more.
SAMPLE_RATES_HZ = range(1_000, 768_001)
# Float files may exceed 1, by a factor 32768 where somebody forgot to scale. Far beyond, squares overflow float32.
MAX_AMPLITUDE = 1e6
LONGEST_AT_ONCE = (
    "the longest that the model takes at once: longer clips are classified, or encoded to one vector, with windows=auto"
)
# Containers that state how many frames follow. Others estimate it, or are written to pipes that state nonsense.
EXACT_FORMATS = frozenset({"FLAC"})
# Room for the samples of a clip before the first is read: 64 MiB of addresses, of memory only what is written to.
MAX_FIRST_SAMPLES = 1 << 24
# What libsndfile gives for a length that is not stated (SF_COUNT_MAX).
UNKNOWN_FRAMES = 2**63 - 1


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


class _Memory(io.BytesIO):
    """The bytes of a file.

    Damaged headers make libsndfile seek to before the beginning. That does nothing here: raised inside its callback, it
    would only be printed.
    """

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        try:
            return super().seek(offset, whence)
        except (ValueError, OverflowError):
            return self.tell()


class _Stream(soundfile.SoundFile):  # type: ignore[misc]  # soundfile has no types
    """A sound file that is read from its beginning to its end.

    SoundFile seeks to where it is after each read of a seekable file, which fails in a FLAC that is damaged or does not
    state its length.
    """

    def seekable(self) -> bool:
        return False


def decode(data: bytes, bounds: Bounds, take: Take, room: Clip | None = None) -> Clip:
    """Return the audio of the file `data` as float32 [samples]: the mean of its channels at `bounds.sample_rate`.

    Samples of float files are not clipped. They are written into `room` where it is given, float32 [bounds.capacity].
    Beside the file, memory stays within that of the clip and a few blocks; where a file states no length, or a wrong
    one, within twice the clip. Raises the AudioError that says what is wrong, or what `take` does.
    """
    if not data:
        raise AudioEmptyError("the audio is empty: it has 0 bytes")
    with _open(data) as file:
        _check_header(file)
        blocks = _resample(_mono_blocks(file, bounds), file.samplerate, bounds.sample_rate)
        if room is not None:
            clip = _join(blocks, take, room)
        else:
            clip = _shrink(_join(blocks, take, np.empty(_first_samples(file, bounds), np.float32)))
    if clip.shape[0] < bounds.min_samples:
        shortest, length = (samples / bounds.sample_rate for samples in (bounds.min_samples, clip.shape[0]))
        raise AudioTooShortError(
            f"the audio is {length:.4f} s long, the shortest that the model takes is {shortest:.4f} s"
        )
    return clip


def _open(data: bytes) -> _Stream:
    try:
        return _Stream(_Memory(data))
    except soundfile.LibsndfileError as error:
        raise AudioUndecodableError(
            f"the audio cannot be decoded ({error.error_string}); WAV, FLAC, OGG (Vorbis, Opus), MP3 and AIFF are read"
        ) from None


def _check_header(file: _Stream) -> None:
    if file.samplerate not in SAMPLE_RATES_HZ:
        low, high = SAMPLE_RATES_HZ[0], SAMPLE_RATES_HZ[-1]
        raise AudioUndecodableError(f"the sample rate is {file.samplerate} Hz; {low} to {high} Hz are read")
    if file.channels > MAX_CHANNELS:
        raise AudioUndecodableError(f"the audio has {file.channels} channels; up to {MAX_CHANNELS} are read")


def _first_samples(file: _Stream, bounds: Bounds) -> int:
    """Return the samples of the clip if its header is right, at most what it may have."""
    stated: int = max(0, file.frames) * bounds.sample_rate // file.samplerate + 1
    return min(stated, bounds.capacity, MAX_FIRST_SAMPLES)


def _join(blocks: Iterator[NDArray[np.float32]], take: Take, room: Clip) -> Clip:
    """Return all `blocks` as one array: the beginning of `room`, or of a larger one where they do not fit."""
    samples = 0
    for block in blocks:
        take(block.nbytes)
        end = samples + block.shape[0]
        if end > room.shape[0]:
            larger = np.empty(max(end, 2 * room.shape[0]), np.float32)
            larger[:samples] = room[:samples]
            room = larger
        room[samples:end] = block
        samples = end
    return room[:samples]


def _shrink(clip: Clip) -> Clip:
    """Return `clip` without the room behind it, where that is more than its own: the header may have lied."""
    room = clip.base
    return clip.copy() if isinstance(room, np.ndarray) and room.nbytes > 2 * clip.nbytes else clip


def _mono_blocks(file: _Stream, bounds: Bounds) -> Iterator[NDArray[np.float32]]:
    """Yield the mean of the channels, block after block, until the file ends or exceeds `bounds.max_samples`.

    A block is read before the next is asked for: its memory is used again.
    """
    block = np.empty((BLOCK_VALUES // file.channels, file.channels), np.float32)
    frames = 0
    while count := _read(file, block, frames):
        frames += count
        if frames * bounds.sample_rate > bounds.max_samples * file.samplerate:
            longest = bounds.max_samples / bounds.sample_rate
            raise AudioTooLongError(f"the audio is longer than {longest:g} s, {bounds.reason}")
        with np.errstate(over="ignore", invalid="ignore"):  # what comes of it is refused below
            mono = block[:count].mean(axis=1) if file.channels > 1 else block[:count, 0]
        if not np.abs(mono).max() <= MAX_AMPLITUDE:  # false for NaN too
            raise AudioNotFiniteError(f"the audio has samples that are NaN, infinite or beyond {MAX_AMPLITUDE:g}")
        yield mono
    if not frames:
        raise AudioEmptyError("the audio is empty: it has 0 samples")
    if file.format in EXACT_FORMATS and frames < file.frames != UNKNOWN_FRAMES:
        raise _truncated(file, frames)


def _read(file: _Stream, block: NDArray[np.float32], frames: int) -> int:
    """Fill `block` and return the number of frames read; `frames` were read before."""
    try:
        return len(file.read(out=block))
    except soundfile.LibsndfileError as error:
        if file.format in EXACT_FORMATS:
            raise _truncated(file, frames) from None
        raise AudioUndecodableError(f"the audio cannot be decoded ({error.error_string})") from None


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
