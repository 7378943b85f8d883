"""What is USM's own, beyond the checks that every family passes."""

from __future__ import annotations

import inspect
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Gemma3nAudioFeatureExtractor

from engines.verify import error
from export import checkpoint as checkpoints
from export import families
from export.errors import CheckpointError, ExportError, UnsupportedError
from export.exportable import Exportable, Options
from export.feed_forward import PIECE
from export.parity import TOLERANCE
from export.usm.extractor import MAX_SAMPLES, MULTIPLE
from export.usm.mel import MelFrames
from export.usm.reference import UsmReference
from export.usm.subsampling import cumulative_sum
from tests.export.exactness import assert_exact, run
from tests.support import noise
from tests.zoo.usm import write, write_extractor


def build(folder: Path, **config: Any) -> Exportable:
    return families.build(checkpoints.resolve(str(write(folder, "Gemma3nAudioEncoder", **config))))


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Exportable:
    """Narrow, with the frames of the published checkpoints."""
    return build(tmp_path_factory.mktemp("usm"))


def test_what_the_extractor_does_by_default_is_what_is_said_of_it() -> None:
    parameters = inspect.signature(Gemma3nAudioFeatureExtractor.__call__).parameters
    defaults = {
        name: parameters[name].default for name in ("max_length", "pad_to_multiple_of", "truncation", "padding")
    }
    assert defaults == {
        "max_length": MAX_SAMPLES,
        "pad_to_multiple_of": MULTIPLE,
        "truncation": True,
        "padding": "longest",
    }


def test_frames_of_the_model_card(published: Exportable) -> None:
    """45,000 samples are 279 mel frames, 70 of the blocks, 18 of the embeddings."""
    clip = noise(45_000)
    extractor = Gemma3nAudioFeatureExtractor()
    assert len(extractor([clip], sampling_rate=16000).input_features[0]) == MelFrames(extractor).frames(45_000) == 279
    (row,) = run(published, [clip])
    assert (len(row["hidden_states.0"]), len(row["embeddings"])) == (70, 18)
    assert [output.samples_per_frame for output in published.outputs[:3]] == [2560, None, 640]


def test_the_shortest_clip_and_the_longest(published: Exportable, tmp_path: Path) -> None:
    assert (published.min_samples, published.max_samples) == (513, 480_000)
    with pytest.raises(RuntimeError, match="Kernel size"):  # of no mel frame
        published.reference(noise(512))
    assert published.reference(noise(513))["embeddings"].shape == (1, 32)
    for milliseconds, shortest in ((25, 385), (8, 129), (31.9375, 385), (7.9375, 1)):  # 400, 128, 511, 127 samples
        exportable = build(tmp_path / str(milliseconds), frame_length_ms=milliseconds)
        assert exportable.min_samples == shortest
        assert_exact(exportable, [noise(length, seed=length) for length in (shortest, shortest + 1, 5000)])


def test_every_multiple_of_128_begins_anew(published: Exportable) -> None:
    lengths = [128 * count + offset for count in (5, 6, 10, 11, 40) for offset in (-1, 0, 1)]
    assert_exact(published, [noise(length, seed=length) for length in lengths])


def test_the_mask_of_the_reference_is_true_on_padding(published: Exportable) -> None:
    """The wrong way round it gives finite garbage: every frame masked, and all embeddings zero."""
    reference = published.reference
    assert isinstance(reference, UsmReference)
    mel, padding = reference._single(noise(5000))
    assert not padding.any()
    with torch.inference_mode():
        inverted = reference._model(mel, ~padding, return_dict=True).last_hidden_state
    assert not inverted.any()
    assert reference(noise(5000))["embeddings"].any()


def test_the_reference_in_fp64_is_fp64_throughout(published: Exportable) -> None:
    clip = noise(20_000)
    double, single = published.reference(clip, torch.float64), published.reference(clip)
    assert {array.dtype for array in double.values()} == {np.dtype(np.float64)}
    assert all(0 < error(single[name], array) < TOLERANCE for name, array in double.items())
    nudged = clip.astype(np.float64) * (1 + 1e-11)
    moved = published.reference(nudged, torch.float64)  # type: ignore[arg-type]
    # fp32 anywhere would round this away, or make steps of 1e-7 of it.
    assert all(0 < error(moved[name], array) < 1e-8 for name, array in double.items())


def test_hidden_states_are_what_blocks_take_and_give(published: Exportable) -> None:
    clip = noise(30_000)
    (row,) = run(published, [clip])
    assert published.layers == {"embeddings": 3, "pooled": 3} | {f"hidden_states.{n}": n for n in range(4)}
    np.testing.assert_array_equal(row["embeddings"], row["hidden_states.3"][::4])
    np.testing.assert_allclose(row["pooled"], row["embeddings"].mean(0), atol=1e-6)


@pytest.mark.parametrize("size", [1, 12, 13])
@pytest.mark.parametrize(("left", "right"), [(0, 0), (1, 0), (13, 0), (30, 0), (3, 2), (2, 40), (14, 13)])
def test_any_chunk_and_context(tmp_path: Path, size: int, left: int, right: int) -> None:
    exportable = build(
        tmp_path,
        conf_num_hidden_layers=2,
        conf_attention_chunk_size=size,
        conf_attention_context_left=left,
        conf_attention_context_right=right,
    )
    assert_exact(exportable, [noise(length, seed=length) for length in (513, 7680, 8200, 20_000)])


@pytest.mark.parametrize("clipping", [1e-3, 0.5, 1e10, 1e38])
def test_values_between_the_parts_are_clipped(tmp_path: Path, clipping: float) -> None:
    exportable = build(tmp_path, gradient_clipping=clipping, conf_num_hidden_layers=1)  # each magnifies roundings
    assert_exact(exportable, [noise(5000), noise(1234, seed=1)])


def test_weights_in_bf16_are_computed_in_fp32(tmp_path: Path) -> None:
    folder = write(tmp_path, "Gemma3nAudioEncoder")
    weights = {name: tensor.bfloat16() for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = folder / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"dtype": "bfloat16"}))
    exportable = families.build(checkpoints.resolve(str(folder)))
    assert {parameter.dtype for parameter in exportable.module.parameters()} == {torch.float32}
    assert_exact(exportable, [noise(5000)])


def test_a_wide_feed_forward_is_computed_in_pieces_of_the_same_weights(tmp_path: Path) -> None:
    exportable = build(tmp_path, hidden_size=2 * PIECE // 4, conf_num_hidden_layers=1)
    pieces = {name for name, _ in exportable.module.named_parameters() if "ffw_layer_end.feed_forward" in name}
    assert len(pieces) == 4
    assert_not_copied(exportable)
    assert_exact(exportable, [noise(5000), noise(1234, seed=1)])


def test_the_weights_are_those_of_the_reference_not_copies(published: Exportable) -> None:
    assert_not_copied(published)


def assert_not_copied(exportable: Exportable) -> None:
    def where(parameter: torch.Tensor) -> int:
        return parameter.untyped_storage().data_ptr()

    reference = exportable.reference
    assert isinstance(reference, UsmReference)
    theirs = {where(parameter) for parameter in reference._model.parameters()}
    ours = {name for name, parameter in exportable.module.named_parameters() if where(parameter) not in theirs}
    assert {name.rpartition(".")[2] for name in ours} == {"scale", "positions"}


def test_a_sum_up_to_each_frame_keeps_its_digits() -> None:
    x = torch.rand(2, 3001, generator=torch.Generator().manual_seed(0))
    exact = torch.cumsum(x.double(), 1)
    assert ((cumulative_sum(x) - exact).abs() / exact).max() < 2e-7


def test_attention_probabilities_are_refused(tmp_path: Path) -> None:
    checkpoint = checkpoints.resolve(str(write(tmp_path, "Gemma3nAudioEncoder")))
    with pytest.raises(UnsupportedError, match="attentions"):
        families.build(checkpoint, Options(attentions=True))


MALFORMED: dict[str, tuple[str, dict[str, Any], type[ExportError], str]] = {
    "no layers": ("config", {"conf_num_hidden_layers": 0}, UnsupportedError, "conf_num_hidden_layers is 0"),
    "no chunk": ("config", {"conf_attention_chunk_size": 0}, CheckpointError, "conf_attention_chunk_size is 0"),
    "a negative context": ("config", {"conf_attention_context_right": -1}, CheckpointError, "context_right is -1"),
    "no cap": ("config", {"conf_attention_logit_cap": 0.0}, CheckpointError, "conf_attention_logit_cap is 0.0"),
    "an odd size": ("config", {"hidden_size": 33}, CheckpointError, "hidden_size is 33"),
    "heads that do not divide": ("config", {"conf_num_attention_heads": 5}, CheckpointError, "a multiple of.*5"),
    "a size in letters": ("config", {"hidden_size": "x"}, CheckpointError, r"config\.json.*hidden_size"),
    "a stride of null": ("config", {"sscp_conv_stride_size": None}, CheckpointError, r"config\.json.*sscp_conv_stride"),
    "one stride": ("config", {"sscp_conv_stride_size": [[2, 2]]}, CheckpointError, "sscp_conv_stride_size"),
    "a kernel of 0": ("config", {"sscp_conv_kernel_size": [[3, 3], [0, 3]]}, CheckpointError, "sscp_conv_kernel_size"),
    "a wide kernel": ("config", {"sscp_conv_kernel_size": [[3, 99], [3, 3]]}, CheckpointError, "leaves no frequency"),
    "another class": ("config", {"architectures": ["Gemma3nX"]}, UnsupportedError, "Gemma3nX"),
    "other weights": ("config", {"conf_conv_kernel_size": 4}, CheckpointError, r"model\.safetensors"),
    "other bins": ("preprocessor_config", {"feature_size": 40}, CheckpointError, "feature_size is 40"),
    "dither": ("preprocessor_config", {"dither": 0.1}, UnsupportedError, "dither is 0.1"),
    "padding before": ("preprocessor_config", {"padding_side": "left"}, UnsupportedError, "padding_side is 'left'"),
    "short frames": ("preprocessor_config", {"frame_length_ms": 7.5}, UnsupportedError, "frame_length_ms is 120"),
    "no hop": ("preprocessor_config", {"hop_length_ms": 0}, CheckpointError, "hop_length_ms"),
    "no floor": ("preprocessor_config", {"mel_floor": 0}, CheckpointError, "mel_floor is 0"),
    "a floor in letters": ("preprocessor_config", {"mel_floor": "x"}, CheckpointError, r"preprocessor_config\.json"),
    "emphasis of null": ("preprocessor_config", {"preemphasis": None}, CheckpointError, "preemphasis is None"),
    "means in letters": ("preprocessor_config", {"per_bin_mean": ["x"] * 32}, CheckpointError, "per_bin_mean"),
    "a deviation of 0": ("preprocessor_config", {"per_bin_stddev": [0.0] * 32}, CheckpointError, "per_bin_stddev"),
    "another extractor": (
        "preprocessor_config",
        {"feature_extractor_type": "Wav2Vec2FeatureExtractor"},
        UnsupportedError,
        "Wav2Vec2FeatureExtractor",
    ),
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("usm"), "Gemma3nAudioEncoder", conf_num_hidden_layers=1)


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_file_is_named(checkpoint: Path, tmp_path: Path, case: str) -> None:
    file, values, kind, message = MALFORMED[case]
    folder = Path(shutil.copytree(checkpoint, tmp_path / "usm"))
    path = folder / f"{file}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    with pytest.raises(kind, match=message):
        families.build(checkpoints.resolve(str(folder)))


SIGNALS: dict[str, Callable[[int], Any]] = {
    "noise": noise,
    "tone": lambda size: np.sin(np.arange(size) * 0.35),
    "DC": lambda size: np.full(size, 0.5),
    "silence": np.zeros,
}


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize("changed", [{}, {"preemphasis_htk_flavor": False}, {"preemphasis": 0.0}])
def test_mel_frames_are_within_what_the_extractor_itself_rounds(
    tmp_path: Path, signal: str, changed: dict[str, Any]
) -> None:
    write_extractor(tmp_path, 128, **changed)
    extractor = Gemma3nAudioFeatureExtractor.from_pretrained(tmp_path)
    clip = SIGNALS[signal](12_345).astype(np.float32)
    reference = UsmReference(None, extractor)
    single, double = reference._single(clip)[0][0].numpy(), reference._double(clip)[0][0].numpy()
    padded = torch.from_numpy(np.append(clip, np.full(999, np.nan, np.float32)))[None]
    mel, frames = MelFrames(extractor)(padded, torch.tensor([len(clip)]))
    assert frames.item() == len(single)
    found = mel[0, : len(single)].numpy()
    assert error(found, single) <= max(TOLERANCE, 3 * error(single, double))
