import random

import numpy as np
import pytest
import soundfile
import soxr

from server.errors import AudioNotFiniteError, AudioTruncatedError
from server.schemas.stream import Encoding
from server.streaming.samples import BLOCK_SECONDS, Samples
from tests.server.process import noise


def fed(samples: Samples, pieces: list[bytes]) -> np.ndarray:
    blocks = [block for piece in pieces for block in samples.feed(piece)]
    return np.concatenate([*blocks, samples.end()])


def pieces(data: bytes, most: int, seed: int = 0) -> list[bytes]:
    """Cut `data` into pieces of up to `most` bytes, none and odd ones among them."""
    generator, found, start = random.Random(seed), [], 0
    while start < len(data):
        size = generator.randint(0, most)
        found.append(data[start : start + size])
        start += size
    return found


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
@pytest.mark.parametrize("most", [3, 1001, 1 << 20])
def test_samples_are_those_of_the_whole_whatever_the_messages(rate: int, most: int) -> None:
    whole = np.round(noise(0.7, rate) * 2**15).astype("<i2")
    found = fed(Samples("pcm16", rate, 16_000), pieces(whole.tobytes(), most))
    scaled = (whole / 2**15).astype(np.float32)
    expected = scaled if rate == 16_000 else soxr.resample(scaled, rate, 16_000, quality="HQ")
    np.testing.assert_array_equal(found, expected)


def test_integers_are_scaled_as_those_of_files(tmp_path: object) -> None:
    whole = np.array([-(2**15), -1, 0, 1, 2**15 - 1], "<i2")
    path = f"{tmp_path}/a.wav"
    soundfile.write(path, whole, 16_000, subtype="PCM_16")
    read, _ = soundfile.read(path, dtype="float32")
    np.testing.assert_array_equal(fed(Samples("pcm16", 16_000, 16_000), [whole.tobytes()]), read)


def test_floats_are_not_clipped() -> None:
    whole = np.array([-3.5, 0.25, 1e6], "<f4")
    np.testing.assert_array_equal(fed(Samples("float32", 16_000, 16_000), pieces(whole.tobytes(), 3)), whole)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1.1e6])
def test_what_is_no_audio(value: float) -> None:
    samples = Samples("float32", 16_000, 16_000)
    data = np.array([0.0] * 500 + [value], "<f4").tobytes()
    with pytest.raises(AudioNotFiniteError):
        fed(samples, [data])


@pytest.mark.parametrize(("encoding", "left"), [("pcm16", 1), ("float32", 3)])
def test_an_end_within_a_sample(encoding: Encoding, left: int) -> None:
    samples = Samples(encoding, 16_000, 16_000)
    assert list(samples.feed(bytes(left))) == []
    with pytest.raises(AudioTruncatedError, match=f"{left} of"):
        samples.end()


def test_nothing_is_made_of_much_at_once() -> None:
    blocks = list(Samples("pcm16", 16_000, 16_000).feed(bytes(1 << 20)))
    assert max(map(len, blocks)) == BLOCK_SECONDS * 16_000
    assert sum(map(len, blocks)) == 1 << 19
