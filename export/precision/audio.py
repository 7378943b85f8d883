"""A folder of audio -> clips to calibrate with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
import soxr

from engines.batch import Clip
from export.errors import ExportError
from export.exportable import Exportable

# So many files at most, and of each so many seconds from its beginning: a few minutes of varied sound show the ranges
# of values, more only takes longer.
FILES, SECONDS = 32, 10.0


def read_audio(folder: Path, exportable: Exportable) -> list[Clip]:
    """Return what `soundfile` reads in `folder`, in the order of the names, as mono at the encoder's rate.

    The files are taken at even distances where there are more than `FILES`; those that are no audio, or too short, are
    passed over. Raises ExportError where none is left.
    """
    if not folder.is_dir():
        raise ExportError(f"--calibrate {folder}: it is no folder; name one with audio files")
    paths = sorted(path for path in folder.rglob("*") if path.suffix[1:].upper() in soundfile.available_formats())
    chosen = [paths[index] for index in np.linspace(0, len(paths) - 1, min(len(paths), FILES)).astype(int)]
    longest = min(SECONDS * exportable.sample_rate, exportable.max_samples or np.inf)
    clips = [_read(path, exportable.sample_rate)[: int(longest)] for path in chosen]
    clips = [clip for clip in clips if len(clip) >= exportable.min_samples]
    if not clips:
        raise ExportError(
            f"--calibrate {folder}: it has no audio that is long enough; put WAV, FLAC or OGG files there"
        )
    return clips


def _read(path: Path, sample_rate: int) -> Clip:
    """Return the beginning of a file: the mean of its channels, at `sample_rate`; ExportError where it is damaged."""
    try:
        with soundfile.SoundFile(path) as file:
            samples = file.read(int(SECONDS * file.samplerate), "float32", always_2d=True).mean(1)
            clip: Clip = soxr.resample(samples, file.samplerate, sample_rate)
    except (soundfile.SoundFileError, OSError) as error:
        raise ExportError(f"--calibrate: {path} cannot be read ({error}); mend it or take it away") from None
    if not np.isfinite(clip).all():
        raise ExportError(f"--calibrate: {path} has samples that are no numbers; mend it or take it away")
    return clip
