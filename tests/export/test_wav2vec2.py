"""What is wav2vec 2.0's own, beyond the checks that every family passes: its two kinds of adapters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Wav2Vec2ForCTC

from engines.verify import error
from export import checkpoint as checkpoints
from export import families
from export.errors import CheckpointError, UnsupportedError
from export.exportable import Exportable, Options
from export.parity import TOLERANCE
from tests.export.exactness import assert_exact, run
from tests.support import make_checkpoint, noise, with_config, write_tokenizer
from tests.zoo.speech import TRUE_STRIDES, edges
from tests.zoo.wav2vec2 import KIND, LARGE, TRUE_ADAPTER


def build(folder: Path, architecture: str, **config: Any) -> Exportable:
    return families.build(checkpoints.resolve(str(make_checkpoint(folder, architecture, **config))))


def test_each_output_names_its_own_frames(tmp_path: Path) -> None:
    """Embeddings and logits have a frame for eight of the hidden states, as the published adapters make them."""
    exportable = build(tmp_path, "Wav2Vec2ForCTC", **TRUE_STRIDES, **TRUE_ADAPTER)
    frames = {output.name: (output.lengths, output.samples_per_frame) for output in exportable.outputs}
    assert frames["embeddings"] == frames["logits"] == ("frames", 2560)
    assert frames["hidden_states.0"] == frames["hidden_states.3"] == ("encoder_frames", 320)
    assert frames["pooled"] == (None, None)
    assert exportable.lengths == ("frames", "encoder_frames")
    (row, _) = run(exportable, [noise(16000), noise(40000)])
    assert (row["embeddings"].shape, row["hidden_states.0"].shape) == ((7, 24), (49, 32))
    assert exportable.hidden_size == 24


def test_without_an_adapter_there_is_one_count_of_frames(tmp_path: Path) -> None:
    exportable = build(tmp_path, "Wav2Vec2ForCTC", output_hidden_size=24)
    assert exportable.lengths == ("frames",)
    assert exportable.hidden_size == 32


def test_layer_norms_at_every_length_around_the_stride_boundaries(tmp_path: Path) -> None:
    exportable = build(tmp_path, "Wav2Vec2ForCTC", **TRUE_STRIDES, **LARGE)
    assert_exact(exportable, [noise(length, seed=length) for length in KIND.edge_lengths])


@pytest.mark.parametrize(("kernel", "stride", "layers"), [(1, 3, 2), (2, 2, 3), (4, 1, 1), (5, 3, 2), (7, 2, 1)])
def test_adapters_of_every_shape_from_the_shortest_clip_on(
    tmp_path: Path, kernel: int, stride: int, layers: int
) -> None:
    """A kernel of 1 makes frames of the zeros beside a clip alone; a wide one wants more than one frame."""
    config = {"adapter_kernel_size": kernel, "adapter_stride": stride, "num_adapter_layers": layers}
    exportable = build(tmp_path, "Wav2Vec2Model", **TRUE_STRIDES, **LARGE, **TRUE_ADAPTER, **config)
    lengths = edges(exportable.min_samples, frames=(1, 2, 3, 6))
    assert_exact(exportable, [noise(length, seed=length) for length in lengths])
    with pytest.raises(RuntimeError):
        exportable.reference(noise(exportable.min_samples - 1))


def test_attentions_need_one_layer_more_than_their_number(tmp_path: Path) -> None:
    checkpoint = checkpoints.resolve(str(make_checkpoint(tmp_path, "Wav2Vec2Model", **TRUE_ADAPTER)))
    exportable = families.build(checkpoint, Options(attentions=True))
    layers = {name: exportable.layers[name] for name in ("hidden_states.1", "attentions.0", "attentions.2")}
    assert layers == {"hidden_states.1": 1, "attentions.0": 1, "attentions.2": 3}
    assert [output.name for output in exportable.outputs][-3:] == ["attentions.0", "attentions.1", "attentions.2"]
    (row, _) = run(exportable, [noise(9000), noise(20000)])
    frames = row["hidden_states.0"].shape[0]
    assert row["attentions.0"].shape == (4, frames, frames)
    assert row["attentions.0"].sum(-1) == pytest.approx(1.0, abs=1e-6)


def test_a_language_is_what_transformers_loads(tmp_path: Path) -> None:
    config = LARGE | {"adapter_attn_dim": 6, "num_hidden_layers": 2}
    checkpoint = make_checkpoint(tmp_path / "checkpoint", "Wav2Vec2ForCTC", seed=1, **config)
    other = make_checkpoint(tmp_path / "other", "Wav2Vec2ForCTC", seed=2, vocab_size=9, **config)
    state = Wav2Vec2ForCTC.from_pretrained(other).state_dict()
    adapter = {k: v for k, v in state.items() if ".adapter_layer." in k or k.startswith("lm_head.")}
    save_file(adapter, checkpoint / "adapter.deu.safetensors")
    special = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4}
    write_tokenizer(checkpoint, {"deu": {**special, "ä": 5, "ö": 6, "ü": 7, "ß": 8}}, target_lang="deu")
    exportable = families.build(checkpoints.resolve(str(checkpoint), target_lang="deu"))
    model = Wav2Vec2ForCTC.from_pretrained(checkpoint, target_lang="deu", ignore_mismatched_sizes=True).eval()
    clip = noise(8000)
    features = (clip - clip.mean()) / (clip.var() + 1e-7) ** 0.5
    with torch.inference_mode():
        expected = model(torch.from_numpy(features)[None]).logits[0].numpy()
    assert expected.shape[-1] == 9
    (row,) = run(exportable, [clip])
    assert error(row["logits"], expected) <= TOLERANCE


MALFORMED: dict[str, tuple[Any, ...]] = {
    "adapter_kernel_size": (None, 0, -1, "3", 1.5),
    "adapter_stride": (None, 0, -1, "2", [2]),
    "num_adapter_layers": (None, -1, "3", [1]),
    "output_hidden_size": (-1, "24", 7),
    "add_adapter": (None, 1, "true"),
    "adapter_attn_dim": ("6", 1.5),
    "num_attention_heads": (0, -1, 5),
}


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("adapted"), "Wav2Vec2Model", num_hidden_layers=1, **TRUE_ADAPTER)


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in MALFORMED.items() for value in values])
def test_a_malformed_configuration_is_refused(adapted: Path, tmp_path: Path, key: str, value: Any) -> None:
    folder = with_config(adapted, tmp_path, **{key: value})
    with pytest.raises(CheckpointError, match=r"config\.json"):
        families.build(checkpoints.resolve(str(folder)))


def test_a_classifier_with_a_convolutional_adapter_is_refused(adapted: Path, tmp_path: Path) -> None:
    folder = with_config(adapted, tmp_path, architectures=["Wav2Vec2ForSequenceClassification"])
    with pytest.raises(CheckpointError, match="add_adapter=True"):
        families.build(checkpoints.resolve(str(folder)))


@pytest.mark.parametrize("name", ["Wav2Vec2ForMaskedLM", "Wav2Vec2ForAudioFrameClassification", "Wav2Vec2ForXVector"])
def test_other_classes_are_refused_by_name(adapted: Path, tmp_path: Path, name: str) -> None:
    folder = with_config(adapted, tmp_path, architectures=[name])
    with pytest.raises(UnsupportedError, match=rf"{name}; Sonant exports Wav2Vec2Model"):
        families.build(checkpoints.resolve(str(folder)))


def test_a_pre_trained_checkpoint_as_it_was_published(tmp_path: Path) -> None:
    """With the quantizer of its training, and the names that weight norm had when it was saved."""
    folder = make_checkpoint(tmp_path, "Wav2Vec2ForPreTraining", num_hidden_layers=1)
    state = load_file(folder / "model.safetensors")
    for new, old in (("original0", "weight_g"), ("original1", "weight_v")):
        name = "wav2vec2.encoder.pos_conv_embed.conv."
        state[f"{name}{old}"] = state.pop(f"{name}parametrizations.weight.{new}")
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    exportable = families.build(checkpoints.resolve(str(folder)))
    assert exportable.tasks == ("encode",)
    assert_exact(exportable, [noise(5000), noise(9000, seed=1)])


def test_a_checkpoint_that_asks_for_tuples(adapted: Path, tmp_path: Path) -> None:
    folder = with_config(adapted, tmp_path, return_dict=False)
    assert_exact(families.build(checkpoints.resolve(str(folder))), [noise(5000)])
