from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.engines.eager import Eager
from export import checkpoint as checkpoints
from export import families
from tests.support import noise
from tests.zoo import Kind, ast, speech_encoder_decoder, usm, wav2vec2

KINDS = [wav2vec2.KIND, ast.KIND, usm.KIND, speech_encoder_decoder.KIND]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("samples", [16_000, 20_003])
def test_a_batch_of_one_length_is_the_truth_of_each_clip(kind: Kind, samples: int, tmp_path: Path) -> None:
    checkpoint = checkpoints.resolve(str(kind.write(tmp_path, kind.architectures[0])))
    clips = [noise(samples, seed=seed) for seed in range(2)]
    rows = Eager(checkpoint)(clips)
    reference = families.build(checkpoint).reference
    for clip, row in zip(clips, rows, strict=True):
        np.testing.assert_allclose(row, reference(clip)["embeddings"], rtol=0, atol=1e-4)
