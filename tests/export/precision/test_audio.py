from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from export import checkpoint as checkpoints
from export import families
from export.errors import ExportError
from export.exportable import Exportable
from export.precision.audio import FILES, SECONDS, read_audio
from tests.support import make_checkpoint, noise


@pytest.fixture(scope="module")
def exportable(tmp_path_factory: pytest.TempPathFactory) -> Exportable:
    folder = make_checkpoint(tmp_path_factory.mktemp("checkpoint"), num_hidden_layers=1)
    return families.build(checkpoints.resolve(str(folder)))


def test_files_become_mono_clips_at_the_encoder_s_rate(tmp_path: Path, exportable: Exportable) -> None:
    (tmp_path / "below").mkdir()
    left = 0.2 * np.sin(np.arange(8000) / 9)
    soundfile.write(tmp_path / "below" / "b.flac", np.stack((left, 3 * left), 1), 8000)
    soundfile.write(tmp_path / "a.wav", noise(int((SECONDS + 2) * 16000)), 16000)
    soundfile.write(tmp_path / "c.wav", noise(exportable.min_samples - 1), 16000)
    (tmp_path / "read.txt").write_text("no audio")
    long, short = read_audio(tmp_path, exportable)
    assert long.dtype == np.float32
    assert long.shape == (int(SECONDS * 16000),)
    assert short.shape == (16000,)
    assert np.abs(short[::2] - 2 * left).max() < 0.02
    cut = read_audio(tmp_path, replace(exportable, max_samples=500))
    assert [len(clip) for clip in cut] == [500, 500]


def test_of_many_files_some_are_taken_from_everywhere(tmp_path: Path, exportable: Exportable) -> None:
    for index in range(2 * FILES):
        soundfile.write(tmp_path / f"{index:03}.wav", noise(1000 + index), 16000)
    lengths = [len(clip) for clip in read_audio(tmp_path, exportable)]
    assert len(lengths) == FILES
    assert (lengths[0], lengths[-1]) == (1000, 1000 + 2 * FILES - 1)


def test_a_folder_without_audio_is_refused(tmp_path: Path, exportable: Exportable) -> None:
    with pytest.raises(ExportError, match=r"--calibrate .*no folder"):
        read_audio(tmp_path / "nothing", exportable)
    with pytest.raises(ExportError, match=r"no audio that is long enough"):
        read_audio(tmp_path, exportable)


def test_damaged_audio_is_refused_by_name(tmp_path: Path, exportable: Exportable) -> None:
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    with pytest.raises(ExportError, match=r"a\.wav cannot be read"):
        read_audio(tmp_path, exportable)
    soundfile.write(tmp_path / "a.wav", np.full(1000, np.nan, np.float32), 16000, subtype="FLOAT")
    with pytest.raises(ExportError, match=r"a\.wav has samples that are no numbers"):
        read_audio(tmp_path, exportable)
