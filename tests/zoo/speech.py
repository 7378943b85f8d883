"""What the families over the shared speech encoder have in common."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from hypothesis import strategies as st
from transformers.activations import ACT2FN

# The convolution stack of the published HuBERT and wav2vec 2.0 checkpoints, narrow; its first layer is still so wide
# that a group norm goes into the convolution.
TRUE_STRIDES: dict[str, Any] = {
    "conv_dim": [40, *[16] * 6],
    "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
    "conv_stride": [5, 2, 2, 2, 2, 2, 2],
}


def edges(shortest: int, frames: Iterable[int]) -> tuple[int, ...]:
    """Return every length within 6 samples of `shortest`, and of so many frames of 320 samples more."""
    around = {shortest + 320 * frame + offset for frame in (0, *frames) for offset in range(-6, 7)}
    return tuple(sorted(length for length in around if length >= shortest))


@st.composite
def shared_configurations(draw: st.DrawFn) -> dict[str, Any]:
    """Any shape that transformers accepts, small, in what every family has."""
    depth = draw(st.integers(1, 4))
    heads = draw(st.sampled_from([1, 2, 3, 4]))
    width = heads * draw(st.sampled_from([8, 9, 12, 20]))
    activation = st.sampled_from(sorted(ACT2FN))
    return {
        # A layer norm over fewer channels magnifies whatever rounding there was, that of the reference too.
        "conv_dim": [draw(st.sampled_from([8, 12, 16])) for _ in range(depth)],
        "conv_kernel": [draw(st.integers(1, 11)) for _ in range(depth)],
        "conv_stride": [draw(st.integers(1, 6)) for _ in range(depth)],
        "conv_bias": draw(st.booleans()),
        "feat_extract_norm": draw(st.sampled_from(["group", "layer"])),
        "feat_extract_activation": draw(activation),
        "hidden_size": width,
        "num_attention_heads": heads,
        "num_hidden_layers": draw(st.integers(1, 3)),
        "intermediate_size": draw(st.sampled_from([8, 24, 1025])),  # the last one in pieces
        "hidden_act": draw(activation),
        "layer_norm_eps": draw(st.sampled_from([1e-5, 1e-6])),
        "num_conv_pos_embeddings": draw(st.integers(1, 17)),
        "num_conv_pos_embedding_groups": draw(st.sampled_from([size for size in (1, 2, 3, 4) if width % size == 0])),
        "use_weighted_layer_sum": draw(st.booleans()),
        "do_normalize": draw(st.booleans()),
        "mask_time_prob": draw(st.sampled_from([0.0, 0.05])),
        "num_labels": draw(st.integers(1, 4)),
        "seed": draw(st.integers(0, 1000)),
    }


@st.composite
def stable_or_not(draw: st.DrawFn) -> dict[str, Any]:
    """Norms before or after each part of a layer; the attention adapters that only the first kind has."""
    stable = draw(st.booleans())
    return {
        "do_stable_layer_norm": stable,
        "adapter_attn_dim": draw(st.sampled_from([None, 6])) if stable else None,
    }


def longest(config: dict[str, Any], shortest: int) -> int:
    """Return a length of some hundred frames at most, as attention grows with their square."""
    strides: list[int] = config["conv_stride"]
    return shortest + min(9000, 300 * math.prod(strides))
