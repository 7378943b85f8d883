"""What is HuBERT's own, beyond the checks that every family passes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers.activations import ACT2FN

from export import checkpoint as checkpoints
from export import families
from export.exportable import Exportable
from tests.export.exactness import assert_exact
from tests.support import make_checkpoint, noise
from tests.zoo.hubert import KIND
from tests.zoo.speech import TRUE_STRIDES


def build(folder: Path, architecture: str, **config: Any) -> Exportable:
    return families.build(checkpoints.resolve(str(make_checkpoint(folder, architecture, **config))))


@pytest.mark.parametrize("activation", sorted(ACT2FN))
def test_every_activation(tmp_path: Path, activation: str) -> None:
    exportable = build(tmp_path, "HubertForCTC", hidden_act=activation, feat_extract_activation=activation)
    assert_exact(exportable, [noise(5000), noise(1234, seed=1)])


def test_layer_norms_at_every_length_around_the_stride_boundaries(tmp_path: Path) -> None:
    config = TRUE_STRIDES | {"feat_extract_norm": "layer", "do_stable_layer_norm": True}
    exportable = build(tmp_path, "HubertForCTC", **config)
    assert exportable.min_samples == 400  # 0.025 s
    assert_exact(exportable, [noise(length, seed=length) for length in KIND.edge_lengths])
