from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from engines.manifest import Output
from export import checkpoint as checkpoints
from export import families
from export.errors import ParityError
from export.exportable import Exportable
from export.parity import GAP_FACTOR, TOLERANCE, check, golden_clips, golden_outputs, worst_excess, write_golden
from tests.support import make_checkpoint, noise


@pytest.fixture(scope="module")
def exportable(tmp_path_factory: pytest.TempPathFactory) -> Exportable:
    folder = make_checkpoint(tmp_path_factory.mktemp("checkpoint"), num_hidden_layers=2)
    return families.build(checkpoints.resolve(str(folder)))


def test_the_reference_agrees_with_itself(exportable: Exportable) -> None:
    clip = noise(5000)
    _, found, bound = worst_excess(exportable.reference(clip), exportable.reference, clip)
    assert (found, bound) == (0, TOLERANCE)


def test_the_bound_widens_only_with_the_reference_s_own_gap(exportable: Exportable) -> None:
    clip = noise(5000)
    truth = exportable.reference(clip)
    off = {"embeddings": truth["embeddings"] * np.float32(1 + 1e-4)}
    name, found, bound = worst_excess(off, exportable.reference, clip)
    exact = exportable.reference(clip, torch.float64)["embeddings"]
    gap = float(np.abs(truth["embeddings"] - exact).max() / np.abs(exact).max())
    assert name == "embeddings"
    assert found == pytest.approx(1e-4, rel=0.01)
    assert bound == pytest.approx(max(TOLERANCE, GAP_FACTOR * gap))
    with pytest.raises(ParityError, match="embeddings differs from transformers"):
        check([off], exportable.reference, [clip])


@pytest.mark.parametrize("place", ["first", "last"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_checkpoint_that_gives_nan_is_refused(
    exportable: Exportable, tmp_path: Path, place: str, value: float
) -> None:
    clip = noise(5000)
    good = exportable.reference(clip)

    def reference(clip: NDArray[np.float32], dtype: torch.dtype = torch.float32) -> dict[str, NDArray[np.floating]]:
        truth = {name: array.copy() for name, array in good.items()}
        truth["embeddings"].flat[0 if place == "first" else -1] = value
        return truth

    with pytest.raises(ParityError, match="the checkpoint itself gives NaN or infinity: embeddings"):
        worst_excess(good, reference, clip)
    with pytest.raises(ParityError, match="the checkpoint itself gives NaN"):
        write_golden(tmp_path / "golden.safetensors", [clip], reference, ["pooled"])


def test_a_reference_that_is_not_finite_in_fp64_widens_no_bound(exportable: Exportable) -> None:
    clip = noise(5000)
    good = exportable.reference(clip)

    def reference(clip: NDArray[np.float32], dtype: torch.dtype = torch.float32) -> dict[str, NDArray[np.floating]]:
        return good if dtype == torch.float32 else {name: array * np.nan for name, array in good.items()}

    with pytest.raises(ParityError, match="the checkpoint itself gives NaN"):
        worst_excess({"embeddings": good["embeddings"] * 2}, reference, clip)


@pytest.mark.parametrize("place", [0, -1])
def test_a_graph_that_gives_nan_is_refused(exportable: Exportable, place: int) -> None:
    clip = noise(5000)
    row = {name: array.copy() for name, array in exportable.reference(clip).items()}
    row["pooled"].flat[place] = np.nan
    with pytest.raises(ParityError, match="pooled differs from transformers by inf"):
        check([row], exportable.reference, [clip])


def test_golden_outputs_cover_every_truncated_graph(exportable: Exportable) -> None:
    assert golden_outputs(exportable, []) == ("embeddings", "pooled", "hidden_states.0", "hidden_states.1")
    assert golden_outputs(exportable, [1]) == ("embeddings", "pooled", "hidden_states.1")


def test_golden_clips_are_short_where_the_encoder_is_large_or_wide(exportable: Exportable) -> None:
    outputs = golden_outputs(exportable, [])
    seconds = [len(clip) / 16000 for clip in golden_clips(exportable, outputs)]
    assert seconds == pytest.approx([3.0, 1.71, 0.63])
    wide = tuple(
        Output(name=o.name, shape=("batch", "frames", 9999), lengths="frames", samples_per_frame=80)
        for o in exportable.outputs
    )
    clips = golden_clips(dataclasses.replace(exportable, outputs=wide), outputs)
    assert sum(len(clip) // 80 * 9999 * 4 * len(outputs) for clip in clips) < 5e6
    large = torch.nn.Linear(20_000, 20_000, device="meta")
    assert len(golden_clips(dataclasses.replace(exportable, module=large), outputs)[0]) == 0.3 * 16000


def test_golden_clips_are_the_same_each_time(exportable: Exportable, tmp_path: Path) -> None:
    first, second = (golden_clips(exportable, ["embeddings"]) for _ in range(2))
    assert all((a == b).all() for a, b in zip(first, second, strict=True))
    assert all(0.05 < np.abs(clip).max() < 1 for clip in first)
