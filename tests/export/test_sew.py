"""What is SEW's own, beyond the checks that every family passes: frames squeezed and upsampled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from export import checkpoint as checkpoints
from export import families
from export.errors import CheckpointError, ExportError, UnsupportedError
from export.exportable import Exportable
from tests.export.exactness import assert_exact, run
from tests.support import make_checkpoint, noise, with_config
from tests.zoo.sew import KIND, TRUE_STRIDES

# One layer of 10 samples in steps of 4: a frame more for every 4 samples.
QUICK: dict[str, Any] = {"conv_dim": [16], "conv_kernel": [10], "conv_stride": [4], "num_hidden_layers": 1}


def build(folder: Path, architecture: str, **config: Any) -> Exportable:
    return families.build(checkpoints.resolve(str(make_checkpoint(folder, architecture, **config))))


def test_each_output_names_its_own_frames(tmp_path: Path) -> None:
    exportable = build(tmp_path, "SEWForCTC", **TRUE_STRIDES)
    frames = {output.name: (output.lengths, output.samples_per_frame) for output in exportable.outputs}
    assert frames["embeddings"] == frames["logits"] == ("frames", 320)
    assert frames["hidden_states.0"] == frames["hidden_states.3"] == ("encoder_frames", 640)
    assert exportable.lengths == ("frames", "encoder_frames")
    (row, _) = run(exportable, [noise(16000), noise(40000)])
    assert (row["embeddings"].shape, row["hidden_states.0"].shape) == ((49, 32), (24, 32))


@pytest.mark.parametrize("positions", [6, 7])
@pytest.mark.parametrize("squeeze", [1, 2, 3, 4, 5])
def test_every_count_of_frames(tmp_path: Path, squeeze: int, positions: int) -> None:
    config = QUICK | {"squeeze_factor": squeeze, "num_conv_pos_embeddings": positions}
    exportable = build(tmp_path, "SEWForCTC", **config)
    assert exportable.min_samples == max(10 + 4 * (squeeze - 1), 14)  # group norm takes the variance of two values
    shortest = (exportable.min_samples - 10) // 4 + 1
    assert_exact(exportable, [noise(10 + 4 * frames, seed=frames) for frames in range(shortest - 1, 22)])
    with pytest.raises((RuntimeError, ValueError)):
        exportable.reference(noise(exportable.min_samples - 1))


def test_frames_that_fill_no_group_are_zero(tmp_path: Path) -> None:
    exportable = build(tmp_path, "SEWModel", **QUICK, squeeze_factor=4)
    (row, _) = run(exportable, [noise(10 + 4 * 10), noise(400)])
    assert row["embeddings"].shape == (11, 32)
    assert row["embeddings"][:8].all(1).all()
    assert not row["embeddings"][8:].any()


def test_layer_norms_at_every_length_around_the_stride_boundaries(tmp_path: Path) -> None:
    exportable = build(tmp_path, "SEWForCTC", **TRUE_STRIDES, feat_extract_norm="layer")
    assert exportable.min_samples == 720  # 0.045 s: two frames, to squeeze
    assert_exact(exportable, [noise(length, seed=length) for length in KIND.edge_lengths])


MALFORMED: dict[str, tuple[Any, ...]] = {
    "squeeze_factor": (None, 0, -2, "2", 1.5, [2], 3),
    "conv_dim": (None, [], [16, "16", 16, 16]),
    "hidden_size": (0, -32, "32", None),
    "num_attention_heads": (0, -1, 5),
    "num_conv_pos_embeddings": (0, -1, None),
    "num_conv_pos_embedding_groups": (0, 3, "4"),
}


@pytest.fixture(scope="module")
def squeezing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("squeezing"), "SEWForCTC", num_hidden_layers=1)


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in MALFORMED.items() for value in values])
def test_a_malformed_configuration_is_refused(squeezing: Path, tmp_path: Path, key: str, value: Any) -> None:
    folder = with_config(squeezing, tmp_path, **{key: value})
    with pytest.raises(CheckpointError, match=r"config\.json"):
        families.build(checkpoints.resolve(str(folder)))


def test_an_adapter_of_another_family_is_refused(squeezing: Path, tmp_path: Path) -> None:
    """transformers makes the head of a configuration that has one for another width, and fails when it is used."""
    folder = with_config(squeezing, tmp_path, add_adapter=True, output_hidden_size=24)
    with pytest.raises(ExportError, match="SEWForCTC"):
        families.build(checkpoints.resolve(str(folder)))


@pytest.mark.parametrize("config", [{}, {"adapter_attn_dim": 6}])
def test_there_are_no_languages(squeezing: Path, tmp_path: Path, config: dict[str, Any]) -> None:
    """`SEWForCTC` takes a target_lang, but no layer of it has an adapter, nor can it load one."""
    folder = with_config(squeezing, tmp_path, **config)
    with pytest.raises(UnsupportedError, match="no attention adapters"):
        families.build(checkpoints.resolve(str(folder), target_lang="deu"))
