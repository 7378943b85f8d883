"""Random checkpoints of the Universal Speech Model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st
from transformers import Gemma3nAudioConfig, Gemma3nAudioEncoder, Gemma3nAudioFeatureExtractor

from tests.support import perturb
from tests.zoo import Kind, Specimen

SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "conf_num_hidden_layers": 3,
    "conf_num_attention_heads": 4,
    "input_feat_size": 32,
    "sscp_conv_channel_size": (16, 8),
}
# What of a configuration belongs to the feature extractor.
EXTRACTOR = (
    "sampling_rate",
    "padding_value",
    "frame_length_ms",
    "hop_length_ms",
    "min_frequency",
    "max_frequency",
    "preemphasis",
    "preemphasis_htk_flavor",
    "fft_overdrive",
    "input_scale_factor",
    "mel_floor",
    "per_bin_mean",
    "per_bin_stddev",
)
# A clip's length counts in multiples of 128 samples, a frame of the embeddings advances 2560.
EDGES = tuple(
    sorted(
        {513, 514, 515, 640, 641, 45000}
        | {first + 2560 * frame + offset for first in (1153, 3073) for frame in (0, 1, 12) for offset in (-1, 0, 1)}
    )
)


def write(folder: Path, architecture: str, seed: int = 0, **config: Any) -> Path:
    """Write a checkpoint with random weights into `folder` and return it; `config` overrides `SMALL`."""
    settings = {key: config.pop(key) for key in EXTRACTOR if key in config}
    torch.manual_seed(seed)
    model = Gemma3nAudioEncoder(Gemma3nAudioConfig(**{**SMALL, **config}))
    perturb(model, seed)
    model.save_pretrained(folder)
    write_extractor(folder, model.config.input_feat_size, **settings)
    return folder


def write_extractor(folder: Path, bins: int, **settings: Any) -> None:
    """Write preprocessor_config.json, with `settings` as they were given: transformers itself drops those in ms."""
    Gemma3nAudioFeatureExtractor(feature_size=bins, **settings).save_pretrained(folder)
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


@st.composite
def configurations(draw: st.DrawFn) -> dict[str, Any]:
    """Any shape that transformers accepts, small."""
    heads = draw(st.sampled_from([1, 2, 4]))
    bins = draw(st.integers(12, 40))
    per_bin = st.lists(st.floats(0.5, 2, width=32), min_size=bins, max_size=bins)
    return {
        "hidden_size": heads * draw(st.sampled_from([12, 20])),
        "conf_num_attention_heads": heads,
        "conf_num_hidden_layers": draw(st.integers(1, 3)),
        "input_feat_size": bins,
        "rms_norm_eps": draw(st.sampled_from([1e-5, 1e-6])),
        "gradient_clipping": draw(st.sampled_from([1e10, 0.7])),
        "conf_attention_chunk_size": draw(st.integers(1, 13)),
        "conf_attention_context_left": draw(st.integers(0, 16)),
        "conf_attention_context_right": draw(st.integers(0, 9)),
        "conf_attention_logit_cap": draw(st.sampled_from([50.0, 2.0])),
        "conf_conv_kernel_size": draw(st.integers(1, 7)),
        "conf_reduction_factor": draw(st.integers(0, 5)),
        "conf_residual_weight": draw(st.sampled_from([0.5, 1.0])),
        "sscp_conv_channel_size": [draw(st.sampled_from([8, 12])) for _ in range(2)],
        "sscp_conv_group_norm_eps": draw(st.sampled_from([1e-3, 1e-2])),
        "sscp_conv_kernel_size": [[draw(st.integers(1, 5)), draw(st.integers(1, 4))] for _ in range(2)],
        "sscp_conv_stride_size": [[draw(st.integers(1, 3)), draw(st.integers(1, 3))] for _ in range(2)],
        "sampling_rate": draw(st.sampled_from([8000, 16000])),
        "padding_value": draw(st.sampled_from([0.0, 0.1])),
        "frame_length_ms": draw(st.sampled_from([17.0, 25.0, 32.0])),
        "hop_length_ms": draw(st.sampled_from([5.0, 10.0, 33.0])),
        "min_frequency": draw(st.sampled_from([0.0, 125.0])),
        "max_frequency": draw(st.sampled_from([3800.0, 7600.0])),
        "preemphasis": draw(st.sampled_from([0.0, 0.97])),
        "preemphasis_htk_flavor": draw(st.booleans()),
        "fft_overdrive": draw(st.booleans()),
        "input_scale_factor": draw(st.sampled_from([1.0, 0.5])),
        "mel_floor": draw(st.sampled_from([1e-5, 1e-3])),
        "per_bin_mean": draw(st.none() | per_bin),
        "per_bin_stddev": draw(st.none() | per_bin),
        "seed": draw(st.integers(0, 1000)),
    }


def longest(config: dict[str, Any], shortest: int) -> int:
    """Return a length of some hundred frames of the blocks at most."""
    hop: int = round(config["sampling_rate"] * config["hop_length_ms"] / 1000)
    strides: list[list[int]] = config["sscp_conv_stride_size"]
    return shortest + min(30000, 150 * hop * strides[0][0] * strides[1][0])


KIND = Kind(
    name="usm",
    architectures=("Gemma3nAudioEncoder",),
    write=write,
    configurations=configurations(),
    longest=longest,
    edges=Specimen("Gemma3nAudioEncoder"),
    edge_lengths=EDGES,
    seconds=(1, 10, 30),
    exports={
        "as published": Specimen("Gemma3nAudioEncoder", {"conf_num_hidden_layers": 2}),
        "any context, one frame in one": Specimen(
            "Gemma3nAudioEncoder",
            {
                "conf_num_hidden_layers": 1,
                "conf_attention_chunk_size": 5,
                "conf_attention_context_left": 8,
                "conf_attention_context_right": 7,
                "conf_reduction_factor": 1,
                "gradient_clipping": 0.7,
                "preemphasis_htk_flavor": False,
                "per_bin_mean": [0.5] * 32,
                "per_bin_stddev": [1.5] * 32,
            },
        ),
    },
)
