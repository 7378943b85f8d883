from __future__ import annotations

import io
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from server.audio import decode
from sonant.client import uploads
from sonant.client.errors import UploadError
from sonant.client.uploads import MAX_WAV_BYTES, PIECE_BYTES, Upload, _wav_header


def sent(upload: Upload) -> bytes:
    data = b"".join(upload.pieces())
    assert upload.size in (None, len(data))
    return data


def test_bytes_paths_and_files_are_sent_as_they_are_and_twice(tmp_path: Path) -> None:
    data = os.urandom(2 * PIECE_BYTES + 5)
    path = tmp_path / "clip"
    path.write_bytes(data)
    with path.open("rb") as file:
        for audio in (data, path, str(path), file, io.BytesIO(data)):
            upload = Upload.of(audio)
            assert upload.is_repeatable
            assert sent(upload) == sent(upload) == data
            assert max(map(len, upload.pieces())) <= PIECE_BYTES


def test_a_file_is_sent_from_where_it_stands() -> None:
    file = io.BytesIO(b"beforeaudio")
    file.seek(6)
    upload = Upload.of(file)
    assert upload.size == 5
    assert sent(upload) == sent(upload) == b"audio"


def test_what_cannot_go_back_is_sent_once() -> None:
    read, write = os.pipe()
    with os.fdopen(read, "rb") as pipe:
        os.write(write, b"audio")
        os.close(write)
        upload = Upload.of(pipe)
        assert not upload.is_repeatable
        assert upload.size is None
        assert sent(upload) == b"audio"


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, ">f4"])
@pytest.mark.parametrize("shape", [(1600,), (1600, 2), (0,)])
def test_arrays_become_wav_files(dtype: Any, shape: tuple[int, ...]) -> None:
    generator = np.random.default_rng(0)
    if dtype is np.int16:
        samples: Any = generator.integers(-(2**15), 2**15, shape, dtype=np.int16)
        scale = 2.0**15
    else:
        samples, scale = generator.uniform(-1, 1, shape).astype(dtype), 1.0
    found, rate = soundfile.read(io.BytesIO(sent(Upload.of(samples, 22_050))), dtype="float32")
    assert rate == 22_050
    np.testing.assert_array_equal(found, (samples / scale).astype(np.float32))


def test_a_slice_with_strides_is_sent_in_order() -> None:
    samples = np.arange(100, dtype=np.float32)[::-2] / 100
    found, _ = soundfile.read(io.BytesIO(sent(Upload.of(samples, 8000))), dtype="float32")
    np.testing.assert_array_equal(found, samples)


@pytest.mark.parametrize(
    ("audio", "rate", "message"),
    [
        ("/nowhere/clip.wav", None, "there is no file /nowhere/clip.wav"),
        (b"", 16_000, "'sample_rate' is of arrays"),
        (np.zeros(3, np.float32), None, "needs its 'sample_rate'"),
        (np.zeros(3, np.float32), 0.5, "a whole number"),
        (np.zeros((3, 2, 2), np.float32), 16_000, "not of shape"),
        (np.zeros((1, 160_000), np.float32), 16_000, r"not of shape \(1, 160000\)"),
        (np.zeros(3, np.int32), 16_000, "not int32"),
        (io.StringIO(""), None, "opened as text"),
        (3, None, "not int"),
    ],
)
def test_what_cannot_be_sent_is_said(audio: Any, rate: int | None, message: str) -> None:
    with pytest.raises(UploadError, match=message):
        Upload.of(audio, rate)


def test_as_many_channels_as_the_server_reads() -> None:
    assert uploads.MAX_CHANNELS == decode.MAX_CHANNELS
    assert sent(Upload.of(np.zeros((10, decode.MAX_CHANNELS), np.float32), 16_000.0))  # type: ignore[arg-type]


def test_a_wav_file_counts_to_4_gib() -> None:
    header = _wav_header(3, 1, 16_000, 4, MAX_WAV_BYTES - 50)
    assert struct.unpack_from("<I", header, 4) == (MAX_WAV_BYTES,)
    with pytest.raises(UploadError, match="no WAV file holds"):
        _wav_header(3, 1, 16_000, 4, MAX_WAV_BYTES - 49)


def test_a_file_that_becomes_shorter_is_said(tmp_path: Path) -> None:
    path = tmp_path / "clip"
    path.write_bytes(b"audio")
    upload = Upload.of(path)
    path.write_bytes(b"au")
    with pytest.raises(UploadError, match="3 bytes shorter"):
        sent(upload)
    path.unlink()
    with pytest.raises(UploadError, match="cannot be read"):
        sent(upload)
