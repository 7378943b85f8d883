"""Random AST checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from hypothesis import strategies as st
from transformers import ASTConfig, ASTFeatureExtractor
from transformers.activations import ACT2FN

from export.exportable import Options
from export.kaldi import HOP, WINDOW
from tests.support import perturb
from tests.zoo import Kind, Specimen

SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "num_mel_bins": 40,
    "max_length": 128,
}
# Settings of preprocessor_config.json that config.json has not.
EXTRACTION = ("do_normalize", "mean", "std", "sampling_rate")


def write(folder: Path, architecture: str, seed: int = 0, **config: Any) -> Path:
    """Write a checkpoint with random weights; `config` overrides `SMALL`, and the settings of the extractor."""
    extraction = {name: config.pop(name) for name in EXTRACTION if name in config}
    torch.manual_seed(seed)
    shape = ASTConfig(**{**SMALL, **config})
    model = getattr(transformers, architecture)(shape)
    perturb(model, seed)
    if architecture.endswith("ForAudioClassification"):
        with torch.no_grad():  # of order one: logits that cancel to almost zero would measure rounding
            model.classifier.dense.bias.add_(1.0)
    model.save_pretrained(folder)
    write_extractor(folder, shape, extraction)
    return folder


def write_extractor(folder: Path, shape: Any, extraction: dict[str, Any]) -> None:
    """Write the feature extractor of an encoder of this shape, with settings of `EXTRACTION`."""
    extractor = ASTFeatureExtractor(num_mel_bins=shape.num_mel_bins, max_length=shape.max_length, **extraction)
    extractor.save_pretrained(folder)


@st.composite
def configurations(draw: st.DrawFn) -> dict[str, Any]:
    """Any shape that transformers accepts, small."""
    patch = draw(st.integers(1, 9))
    return {
        "patch_size": patch,
        "frequency_stride": draw(st.integers(4, 12)),
        "time_stride": draw(st.integers(4, 12)),
        "num_mel_bins": draw(st.integers(max(2, patch), 24)),  # of more, some would be empty, which transformers says
        "max_length": draw(st.integers(patch, 70)),
        # Not always a multiple of the heads.
        "hidden_size": draw(st.sampled_from([24, 32, 36, 40])),
        "num_attention_heads": draw(st.sampled_from([1, 2, 3, 4])),
        "num_hidden_layers": draw(st.integers(1, 3)),
        "intermediate_size": draw(st.sampled_from([8, 24, 1025])),  # the last one in pieces
        "hidden_act": draw(st.sampled_from(sorted(ACT2FN))),
        "layer_norm_eps": draw(st.sampled_from([1e-12, 1e-6])),
        "qkv_bias": draw(st.booleans()),
        "num_labels": draw(st.integers(1, 4)),
        "do_normalize": draw(st.booleans()),
        "mean": draw(st.floats(-9, 1)),
        "std": draw(st.floats(0.5, 6)),
        "sampling_rate": draw(st.sampled_from([16_000, 8_000, 11_025, 44_100])),
        "seed": draw(st.integers(0, 1000)),
    }


def longest(config: dict[str, Any], shortest: int) -> int:
    """Return the longest clip of which nothing is cut off."""
    frames: int = config["max_length"]
    return shortest + frames * HOP - 1


def edges() -> tuple[int, ...]:
    """Return the lengths around the edges of the first frames, of the second and third patch, and of the last frame."""
    last = SMALL["max_length"] - 1
    around = {WINDOW + HOP * frame + offset for frame in (0, 1, 2, 15, 16, 25, 26, last) for offset in (-1, 0, 1)}
    return tuple(sorted({length for length in around if length >= WINDOW} | {WINDOW + HOP * last + HOP - 1}))


KIND = Kind(
    name="ast",
    architectures=("ASTModel", "ASTForAudioClassification"),
    write=write,
    configurations=configurations(),
    longest=longest,
    edges=Specimen("ASTForAudioClassification"),
    edge_lengths=edges(),
    seconds=(1, 10),
    exports={
        "no bias, attentions": Specimen(
            "ASTForAudioClassification",
            {"qkv_bias": False, "hidden_act": "quick_gelu", "num_labels": 3, "time_stride": 7, "frequency_stride": 16},
            Options(attentions=True),
        ),
        "cropped": Specimen("ASTForAudioClassification", {}, Options(variant="cropped")),
    },
)
