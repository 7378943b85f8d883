from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from engines.manifest import Output
from export import checkpoint as checkpoints
from export import families, golden
from export.exportable import Exportable
from tests.support import make_checkpoint
from tests.zoo import ast


@pytest.fixture(scope="module")
def exportable(tmp_path_factory: pytest.TempPathFactory) -> Exportable:
    folder = make_checkpoint(tmp_path_factory.mktemp("checkpoint"), num_hidden_layers=2)
    return families.build(checkpoints.resolve(str(folder)))


def test_golden_outputs_cover_every_truncated_graph(exportable: Exportable) -> None:
    assert golden.kept_outputs(exportable, []) == ("embeddings", "pooled", "hidden_states.0", "hidden_states.1")
    assert golden.kept_outputs(exportable, [1]) == ("embeddings", "pooled", "hidden_states.1")


def test_golden_clips_are_short_where_the_encoder_is_large_or_wide(exportable: Exportable) -> None:
    outputs = golden.kept_outputs(exportable, [])
    seconds = [len(clip) / 16000 for clip in golden.make_clips(exportable, outputs)]
    assert seconds == pytest.approx([3.0, 1.71, 0.63])
    wide = tuple(
        Output(name=o.name, shape=("batch", "frames", 9999), lengths="frames", samples_per_frame=80)
        for o in exportable.outputs
    )
    clips = golden.make_clips(dataclasses.replace(exportable, outputs=wide), outputs)
    assert sum(len(clip) // 80 * 9999 * 4 * len(outputs) for clip in clips) < 5e6
    large = torch.nn.Linear(20_000, 20_000, device="meta")
    assert len(golden.make_clips(dataclasses.replace(exportable, module=large), outputs)[0]) == 0.3 * 16000


def test_golden_clips_are_the_same_each_time(exportable: Exportable, tmp_path: Path) -> None:
    first, second = (golden.make_clips(exportable, ["embeddings"]) for _ in range(2))
    assert all((a == b).all() for a, b in zip(first, second, strict=True))
    assert all(0.05 < np.abs(clip).max() < 1 for clip in first)


def test_golden_clips_are_fewer_where_every_clip_is_padded_to_the_longest(
    exportable: Exportable, tmp_path: Path
) -> None:
    padded = families.build(checkpoints.resolve(str(ast.KIND.write(tmp_path, "ASTModel"))))
    assert len(golden.make_clips(padded, ["pooled"])) == len(golden.PADDED_SHARES)
    without_frames = dataclasses.replace(exportable, lengths=())  # as of `--outputs pooled`
    assert len(golden.make_clips(without_frames, ["pooled"])) == len(golden.SHARES)
