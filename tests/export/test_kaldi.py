from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import ASTFeatureExtractor

from export.kaldi import Filterbank
from tests.support import noise

CLIPS: dict[str, NDArray[np.float32]] = {
    "noise": noise(16_001),
    "one window": noise(400),
    "one window and most of a hop": noise(559),
    "two windows": noise(560),
    "silence": np.zeros(4000, np.float32),
    "tone": np.sin(np.arange(16_000) * 0.35).astype(np.float32),
    "DC": np.full(8000, 0.3, np.float32),
    "DC with faint noise": np.full(8000, 0.5, np.float32) + noise(8000, scale=1e-4),
    "clipping": np.clip(20 * noise(8000), -1, 1),
    "loud": 1e5 * noise(8000),
}


@pytest.mark.filterwarnings("ignore:At least one mel filter")  # of the published 128
@pytest.mark.parametrize("name", CLIPS)
@pytest.mark.parametrize(("sample_rate", "mel_bins"), [(16_000, 128), (11_025, 40)])
def test_equals_the_feature_extractor_whatever_the_padding_holds(name: str, sample_rate: int, mel_bins: int) -> None:
    clip = CLIPS[name]
    extractor = ASTFeatureExtractor(do_normalize=False, sampling_rate=sample_rate, num_mel_bins=mel_bins)
    expected = extractor(clip, sampling_rate=sample_rate, return_tensors="np").input_values[0]
    padded = np.full((2, len(clip) + 777), np.nan, np.float32)
    padded[0, : len(clip)] = clip
    padded[1] = noise(padded.shape[1], seed=9)
    lengths = torch.tensor([len(clip), padded.shape[1]])
    energies, frames = Filterbank(sample_rate, mel_bins)(torch.from_numpy(padded), lengths)
    found, valid = energies[0].numpy(), int(frames[0])
    assert valid == 1 + (len(clip) - 400) // 160
    # Roundings of fp32 at 16, the logarithm of the floor.
    np.testing.assert_allclose(found[:valid], expected[:valid], rtol=0, atol=4e-6)
    assert not found[valid:].any()
    assert not expected[valid:].any()


def test_a_row_without_a_window_has_no_frame() -> None:
    energies, frames = Filterbank(16_000, 40)(torch.ones(2, 500), torch.tensor([399, 0]))
    assert frames.tolist() == [0, 0]
    assert not energies.any()
