from __future__ import annotations

import os
from pathlib import Path, PurePath

import pytest

from sonant.runs.inputs import Input
from sonant.runs.order import BYTES_PER_SECOND, by_length, seconds_of
from tests.server.process import noise, wav


def written(path: Path, data: bytes) -> Input:
    path.write_bytes(data)
    return Input(path, PurePath(path.name))


def test_the_longest_is_first_whatever_its_format(tmp_path: Path) -> None:
    short = written(tmp_path / "short.wav", wav(noise(0.5, rate=48_000), rate=48_000))
    long = written(tmp_path / "long.flac", wav(noise(2.0), format_="FLAC", subtype="PCM_16"))
    nothing = written(tmp_path / "nothing.mp3", b"")
    gone = Input(tmp_path / "gone.wav", PurePath("gone.wav"))
    found = by_length([short, nothing, long, gone])
    assert list(found)[:2] == [long, short]
    assert found == pytest.approx({long: 2.0, short: 0.5, nothing: 0.0, gone: 0.0})


def test_a_name_need_be_neither_utf_8_nor_that_of_a_format(tmp_path: Path) -> None:
    strange = written(tmp_path / os.fsdecode(b"b\xff\xfe.wav"), wav(noise(2.0)))
    raw = written(tmp_path / "x.raw", b"x" * BYTES_PER_SECOND)
    assert by_length([strange, raw]) == pytest.approx({strange: 2.0, raw: 1.0})


def test_what_no_header_tells_its_bytes_do(tmp_path: Path) -> None:
    unknown = written(tmp_path / "x.wav", b"x" * 3 * BYTES_PER_SECOND)
    assert seconds_of(unknown) == 3.0
    assert seconds_of(Input(Path("-"), PurePath("stdin"))) == 0.0
