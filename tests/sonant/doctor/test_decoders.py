from __future__ import annotations

import sys
from typing import Any

import pytest
import soundfile
import soxr

from sonant.doctor import decoders


def test_this_installation() -> None:
    (formats,) = decoders.check("soundfile")
    assert formats.status == "ok"
    assert formats.found.endswith("reads WAV, FLAC, Vorbis, Opus, MP3, AIFF")
    assert [found.status for found in decoders.check("soxr")] == ["ok"]


def test_an_old_libsndfile(monkeypatch: pytest.MonkeyPatch) -> None:
    write = soundfile.write

    def old(*arguments: Any, **options: Any) -> None:
        if options["format"] == "MP3":
            raise ValueError("Unknown format: 'MP3'")
        write(*arguments, **options)

    monkeypatch.setattr(soundfile, "write", old)
    (found,) = decoders.check("soundfile")
    assert found.status == "problem"
    assert found.found.endswith("cannot read MP3: Unknown format: 'MP3'")
    assert "pip install" in found.mend


def test_a_decoder_that_drops_what_it_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    read = soundfile.read
    monkeypatch.setattr(soundfile, "read", lambda file, dtype: (read(file, dtype=dtype)[0][:100], 48_000))
    (found,) = decoders.check("soundfile")
    assert "WAV: 100 samples came back of 4800" in found.found


def test_a_resampler_that_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soxr, "resample", lambda samples, *_, **__: samples)
    assert [found.status for found in decoders.check("soxr")] == ["problem"]


@pytest.mark.parametrize("library", ["soundfile", "soxr"])
def test_a_library_that_is_not_installed(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    (found,) = decoders.check(library)
    assert (found.status, "sonant[serve]" in found.mend) == ("not here", True)
