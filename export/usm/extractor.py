"""Which settings of `Gemma3nAudioFeatureExtractor` are exported."""

from __future__ import annotations

from typing import Any

import numpy as np

from export.errors import CheckpointError, UnsupportedError

FILE = "preprocessor_config.json"
# Defaults of the extractor's `__call__`, which no file of a checkpoint changes: a clip is cut to so many samples, then
# padded to a multiple of so many.
MAX_SAMPLES = 480_000
MULTIPLE = 128
NUMBERS = ("min_frequency", "max_frequency", "preemphasis", "input_scale_factor", "padding_value", "dither")


def settings(extractor: Any) -> dict[str, bool | int | float | str | None]:
    """Return what the extractor does, for the reader of engine.json."""
    names = ("sampling_rate", "feature_size", "frame_length", "hop_length", "fft_length", *NUMBERS)
    return {
        **{name: getattr(extractor, name) for name in names},
        "preemphasis_htk_flavor": extractor.preemphasis_htk_flavor,
        "mel_floor": float(extractor.mel_floor),
        "normalized_per_bin": extractor.per_bin_mean is not None or extractor.per_bin_stddev is not None,
    }


def check_extractor(extractor: Any, bins: int) -> None:
    """Raise UnsupportedError or CheckpointError unless the extractor makes frames of `bins` as `MelFrames` does."""
    name = type(extractor).__name__
    if name != "Gemma3nAudioFeatureExtractor":
        raise UnsupportedError(f"{FILE}: {name} is not supported here: only Gemma3nAudioFeatureExtractor is")
    _check_numbers(extractor)
    if extractor.feature_size != bins:
        raise CheckpointError(f"{FILE}: feature_size is {extractor.feature_size}, config.json has {bins} mel bins")
    if type(extractor.sampling_rate) is not int or min(extractor.sampling_rate, extractor.hop_length) < 1:
        raise CheckpointError(f"{FILE}: sampling_rate and the samples of hop_length_ms must be whole numbers above 0")
    if extractor.frame_length < MULTIPLE - 1:  # transformers would mask frames that begin in the padding
        raise UnsupportedError(
            f"{FILE}: frame_length_ms is {extractor.frame_length} samples; Sonant exports {MULTIPLE - 1} or more"
        )
    if extractor.padding_side != "right":
        raise UnsupportedError(f"{FILE}: padding_side is {extractor.padding_side!r}; Sonant exports 'right'")
    if extractor.dither > 0:
        raise UnsupportedError(f"{FILE}: dither is {extractor.dither}: no result could be repeated; set it to 0")


def _check_numbers(extractor: Any) -> None:
    for name in NUMBERS:
        value = getattr(extractor, name)
        if type(value) not in {int, float} or not np.isfinite(value):
            raise CheckpointError(f"{FILE}: {name} is {value!r}; it must be a number")
    if not (extractor.mel_floor.ndim == 0 and 0 < extractor.mel_floor < np.inf):
        raise CheckpointError(f"{FILE}: mel_floor is {extractor.mel_floor}; it must be a number above 0")
    if not np.isfinite(extractor.mel_filters).all():
        raise CheckpointError(f"{FILE}: min_frequency and max_frequency leave no mel filters")
    for name in ("per_bin_mean", "per_bin_stddev"):
        values = getattr(extractor, name)
        if values is not None and not (values.dtype.kind in "if" and np.isfinite(values).all()):
            raise CheckpointError(f"{FILE}: {name} must be a list of finite numbers")
    if extractor.per_bin_stddev is not None and not extractor.per_bin_stddev.all():
        raise CheckpointError(f"{FILE}: per_bin_stddev has a 0")
