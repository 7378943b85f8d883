import errno
import hashlib
import io
import os
import struct
import tracemalloc
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from server.audio.decode import BLOCK_VALUES, AudioFile, Bounds, decode
from server.errors import (
    AudioEmptyError,
    AudioError,
    AudioNotFiniteError,
    AudioTooLongError,
    AudioTooShortError,
    AudioTruncatedError,
    AudioUndecodableError,
    StorageError,
)
from tests.server.audio.mutations import damaged, originals
from tests.server.tasks.manifests import manifest

RATE = 16_000
BLOCKS = 4 * BLOCK_VALUES  # bytes of one block; decoding has a few
BOUNDS = Bounds(RATE, 400, 30 * RATE)
FORMATS = [
    ("WAV", "PCM_16", 2e-4),
    ("WAV", "PCM_U8", 2e-2),
    ("WAV", "FLOAT", 1e-6),
    ("WAV", "ULAW", 5e-2),
    ("FLAC", "PCM_24", 1e-5),
    ("AIFF", "PCM_16", 2e-4),
    ("OGG", "VORBIS", 0.1),
    ("OGG", "OPUS", 0.1),
    ("MP3", "MPEG_LAYER_III", 0.1),
]


def speechlike(seconds: float, rate: int = RATE, channels: int = 1, seed: int = 0) -> NDArray[np.float32]:
    time = np.arange(round(seconds * rate)) / rate
    phases = np.random.default_rng(seed).uniform(0, 6, channels)
    return (0.4 * np.sin(2 * np.pi * 220 * time[:, None] + phases)).astype(np.float32)


def encoded(samples: NDArray[np.float32], rate: int = RATE, format_: str = "WAV", subtype: str = "FLOAT") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=format_, subtype=subtype)
    return file.getvalue()


def decoded(data: bytes, bounds: Bounds = BOUNDS) -> NDArray[np.float32]:
    return np.concatenate([block.copy() for block in decode(io.BytesIO(data), bounds)])


def without_length(flac: bytes) -> bytes:
    data = bytearray(flac)
    data[8 + 13] &= 0xF0  # the 36 bits of total samples in STREAMINFO
    data[8 + 14 : 8 + 18] = bytes(4)
    return bytes(data)


@pytest.mark.parametrize(("format_", "subtype", "tolerance"), FORMATS)
@pytest.mark.parametrize("channels", [1, 2])
def test_every_format_gives_the_mean_of_its_channels(
    format_: str, subtype: str, tolerance: float, channels: int
) -> None:
    samples = speechlike(1.3, channels=channels)
    clip = decoded(encoded(samples, RATE, format_, subtype))
    assert clip.dtype == np.float32
    assert clip.shape == (samples.shape[0],)
    assert np.abs(clip - samples.mean(axis=1))[100:-100].max() <= tolerance


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000, 192_000, 7_919])
def test_other_rates_are_resampled_as_soxr_does_on_the_whole(rate: int) -> None:
    samples = speechlike(2.7, rate)[:, 0]
    expected = soxr.resample(samples, rate, RATE, quality="HQ")
    np.testing.assert_array_equal(decoded(encoded(samples, rate)), expected)


def test_a_float_file_is_not_clipped() -> None:
    samples = 3 * speechlike(0.5)[:, 0]
    np.testing.assert_array_equal(decoded(encoded(samples)), samples)


@given(st.sampled_from([8_000, 16_000, 44_100]), st.integers(1, 7), st.integers(400, 9_000), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_the_length_is_that_of_the_audio(rate: int, channels: int, frames: int, seed: int) -> None:
    samples = np.random.default_rng(seed).uniform(-1, 1, (frames, channels)).astype(np.float32)
    clip = decoded(encoded(samples, rate), Bounds(RATE, 1, 30 * RATE))
    assert abs(clip.shape[0] - frames * RATE / rate) <= 1
    assert np.isfinite(clip).all()


def test_no_bytes() -> None:
    with pytest.raises(AudioEmptyError, match="0 bytes"):
        decoded(b"")


@pytest.mark.parametrize("format_", ["WAV", "FLAC", "AIFF"])
def test_no_samples(format_: str) -> None:
    with pytest.raises(AudioError) as caught:
        decoded(encoded(np.zeros((0, 1), np.float32), RATE, format_, "PCM_16"))
    assert caught.value.code in ("audio_empty", "audio_undecodable")


def test_the_shortest_clip_is_said() -> None:
    assert decoded(encoded(speechlike(0.025))).shape == (400,)
    with pytest.raises(AudioTooShortError, match=r"0\.0249 s long.* shortest .* 0\.0250 s"):
        decoded(encoded(speechlike(0.025)[:399]))


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_the_longest_clip_is_taken_and_one_frame_more_is_not(rate: int) -> None:
    bounds = Bounds(RATE, 400, 2 * RATE)
    assert decoded(encoded(speechlike(2, rate), rate), bounds).shape == (2 * RATE,)
    with pytest.raises(AudioTooLongError, match="longer than 2 s"):
        decoded(encoded(np.zeros((2 * rate + 1, 1), np.float32), rate), bounds)


def test_whose_the_longest_is() -> None:
    described = manifest()  # takes 0.025 to 30 s
    assert Bounds.of(described, max_seconds=600).max_samples == 30 * RATE
    assert "windows=auto" in Bounds.of(described, max_seconds=600).reason
    for bounds, seconds in ((Bounds.of(described, 600, windowed=True), 600), (Bounds.of(described, 10), 10)):
        assert bounds.max_samples == seconds * RATE
        assert "the server takes" in bounds.reason


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e20, 3e38])
@pytest.mark.parametrize("at", [0, 70_000, -1])
def test_samples_that_are_not_finite(value: float, at: int) -> None:
    samples = speechlike(6, channels=2)
    samples[at] = value
    with pytest.raises(AudioNotFiniteError):
        decoded(encoded(samples))


@pytest.mark.parametrize("data", [b"this is text\n" * 50, b"\0" * 5_000, b"RIFF", b"ID3" + b"\xff" * 500, b"x"])
def test_what_is_not_audio(data: bytes) -> None:
    with pytest.raises(AudioUndecodableError, match="cannot be decoded"):
        decoded(data)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.999])
def test_a_truncated_flac(share: float) -> None:
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, 5 * RATE).astype(np.float32)
    data = encoded(noise, RATE, "FLAC", "PCM_16")
    with pytest.raises(AudioTruncatedError, match="FLAC stream is cut short"):
        decoded(data[: int(share * len(data))])


def test_a_flac_that_was_written_to_a_pipe_states_no_length() -> None:
    samples = speechlike(1)[:, 0]
    data = without_length(encoded(samples, RATE, "FLAC", "PCM_16"))
    np.testing.assert_allclose(decoded(data), samples, atol=1e-4)


def test_a_wav_that_was_written_to_a_pipe_states_too_great_a_length() -> None:
    samples = speechlike(1)[:, 0]
    data = bytearray(encoded(samples, RATE, "WAV", "PCM_16"))
    data[4:8] = data[40:44] = struct.pack("<I", 0xFFFFFFFF)
    np.testing.assert_allclose(decoded(bytes(data)), samples, atol=1e-4)


def test_a_header_of_ten_hours_takes_no_memory() -> None:
    data = bytearray(encoded(speechlike(1)[:, 0], RATE, "WAV", "PCM_16")[:1024])
    data[40:44] = struct.pack("<I", 10 * 3600 * RATE * 2)
    assert decoded(bytes(data)).shape == ((1024 - 44) // 2,)


@pytest.mark.parametrize(("rate", "channels"), [(1, 1), (999, 1), (2**31 - 1, 1), (RATE, 65), (RATE, 1000)])
def test_absurd_headers(rate: int, channels: int) -> None:
    with pytest.raises(AudioUndecodableError, match=r"sample rate is|channels"):
        decoded(encoded(np.zeros((500, channels), np.float32), rate, "WAV", "PCM_16"))


def peak_bytes(data: bytes, bounds: Bounds) -> int:
    """Return the most memory of Python and numpy that decoding takes at one time, beside what is made of the blocks."""
    file = io.BytesIO(data)
    tracemalloc.start()
    try:
        with suppress(AudioError):
            for _ in decode(file, bounds):
                pass
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("rate", "channels"), [(RATE, 1), (44_100, 2)])
def test_decoding_takes_the_memory_of_a_few_blocks(rate: int, channels: int) -> None:
    data = encoded(speechlike(60, rate, channels), rate, "WAV", "PCM_16")
    assert peak_bytes(data, Bounds(RATE, 400, 90 * RATE)) <= 4 * BLOCKS


def test_a_flac_that_states_no_length_takes_no_more() -> None:
    data = without_length(encoded(speechlike(60), RATE, "FLAC", "PCM_16"))
    assert peak_bytes(data, Bounds(RATE, 400, 90 * RATE)) <= 4 * BLOCKS


@pytest.mark.parametrize(("format_", "subtype"), [("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS")])
def test_silence_of_minutes_in_a_small_file(format_: str, subtype: str) -> None:
    written = io.BytesIO()
    with soundfile.SoundFile(written, "w", RATE, 1, subtype, format=format_) as file:
        for _ in range(40):  # libvorbis overflows the stack where all of it is written at one time
            file.write(np.zeros(10 * RATE, np.float32))
    data = written.getvalue()
    assert len(data) < 1 << 20  # 25 MiB when it is decoded
    lengths: list[int] = []
    with pytest.raises(AudioTooLongError):
        lengths.extend(map(len, decode(io.BytesIO(data), BOUNDS)))
    assert 0 < sum(lengths) <= BOUNDS.max_samples
    assert peak_bytes(data, BOUNDS) <= 4 * BLOCKS


class Failing(io.BytesIO):
    """A file on a disk that cannot be read from `place` on."""

    def __init__(self, data: bytes, place: int) -> None:
        super().__init__(data)
        self.place = place

    def readinto(self, buffer: Any, /) -> int:
        if self.tell() + memoryview(buffer).nbytes > self.place:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().readinto(buffer)


@pytest.mark.parametrize(("format_", "subtype"), [("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS")])
@pytest.mark.parametrize("share", [0, 0.5])
def test_a_disk_that_fails(format_: str, subtype: str, share: float, capfd: pytest.CaptureFixture[str]) -> None:
    """It is not taken for the end of the file, nor for a damaged one."""
    data = encoded(speechlike(20), RATE, format_, subtype)
    with pytest.raises(StorageError, match="cannot be read: Input/output error"):
        list(decode(Failing(data, round(share * len(data))), BOUNDS))
    assert capfd.readouterr().err == ""


def test_a_file_that_cannot_be_sought_in() -> None:
    read, write = os.pipe()
    os.close(write)
    with os.fdopen(read, "rb") as file, pytest.raises(StorageError, match="cannot be read"):
        list(decode(file, BOUNDS))


def test_a_file_of_the_system_is_read_as_one_in_memory(tmp_path: Path) -> None:
    for data in [*originals(), *islice(damaged(originals(), seed=3), 200)]:
        path = tmp_path / "file"
        path.write_bytes(data)
        assert outcome(io.BytesIO(data)) == outcome(path.open("rb"))


def outcome(file: AudioFile) -> str:
    """Return what comes of `file`: the hash of its audio, or an error."""
    with file:
        try:
            return hashlib.sha256(b"".join(block.tobytes() for block in decode(file, BOUNDS))).hexdigest()
        except AudioError as error:
            return error.message


def test_damaged_files_give_a_clip_or_an_audio_error() -> None:
    for data in islice(damaged(originals(), seed=7), 500):
        try:
            clip = decoded(data)
        except AudioError:
            continue
        assert np.isfinite(clip).all()
        assert BOUNDS.min_samples <= clip.shape[0] <= BOUNDS.capacity
