from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import Wav2Vec2FeatureExtractor

from export.frontends import Waveform
from tests.support import noise

CLIPS = {
    "noise": noise(16001),
    "one sample": np.array([0.3], np.float32),
    "silence": np.zeros(4000, np.float32),
    "loud": 50 * noise(3000, seed=1),
    "a minute": noise(960_000, seed=2),
}


@pytest.mark.parametrize("name", CLIPS)
@pytest.mark.parametrize("normalize", [True, False])
def test_equals_the_feature_extractor_whatever_the_padding_holds(name: str, normalize: bool) -> None:
    clip = CLIPS[name]
    extractor = Wav2Vec2FeatureExtractor(do_normalize=normalize)
    expected = extractor(clip, sampling_rate=16000, return_tensors="np").input_values[0]
    padded = np.full((2, len(clip) + 777), np.nan, np.float32)
    padded[0, : len(clip)] = clip
    padded[1] = noise(padded.shape[1], seed=9)
    found = Waveform(normalize)(torch.from_numpy(padded), torch.tensor([len(clip), padded.shape[1]]))[0].numpy()
    np.testing.assert_allclose(found[: len(clip)], expected, rtol=0, atol=1e-5 * max(1, np.abs(expected).max()))
    assert not found[len(clip) :].any()
