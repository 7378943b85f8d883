"""Random HuBERT checkpoints."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import strategies as st
from transformers.activations import ACT2FN

from tests.support import make_checkpoint
from tests.zoo import Kind, Specimen

# The convolution stack of the published checkpoints, narrow.
TRUE_STRIDES: dict[str, Any] = {
    "conv_dim": [16] * 7,
    "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
    "conv_stride": [5, 2, 2, 2, 2, 2, 2],
}
EDGES = tuple(
    400 + 320 * frame + offset for frame in (0, 1, 2, 3, 24) for offset in range(-6, 7) if frame or offset >= 0
)


@st.composite
def configurations(draw: st.DrawFn) -> dict[str, Any]:
    """Any shape that transformers accepts, small."""
    depth = draw(st.integers(1, 4))
    heads = draw(st.sampled_from([1, 2, 4]))
    groups = draw(st.sampled_from([1, 2, 4]))
    stable = draw(st.booleans())
    activation = st.sampled_from(sorted(ACT2FN))
    return {
        # A layer norm over fewer channels magnifies whatever rounding there was, that of the reference too.
        "conv_dim": [draw(st.sampled_from([8, 12, 16])) for _ in range(depth)],
        "conv_kernel": [draw(st.integers(1, 11)) for _ in range(depth)],
        "conv_stride": [draw(st.integers(1, 6)) for _ in range(depth)],
        "conv_bias": draw(st.booleans()),
        "feat_extract_norm": draw(st.sampled_from(["group", "layer"])),
        "feat_extract_activation": draw(activation),
        "feat_proj_layer_norm": draw(st.booleans()),
        "hidden_size": heads * draw(st.sampled_from([8, 12, 20])),
        "num_attention_heads": heads,
        "num_hidden_layers": draw(st.integers(1, 3)),
        "intermediate_size": draw(st.sampled_from([8, 24, 1025])),  # the last one in pieces
        "hidden_act": draw(activation),
        "layer_norm_eps": draw(st.sampled_from([1e-5, 1e-6])),
        "num_conv_pos_embeddings": draw(st.integers(1, 17)),
        "num_conv_pos_embedding_groups": groups,
        "conv_pos_batch_norm": draw(st.booleans()),
        "do_stable_layer_norm": stable,
        "adapter_attn_dim": draw(st.sampled_from([None, 6])) if stable else None,
        "use_weighted_layer_sum": draw(st.booleans()),
        "do_normalize": draw(st.booleans()),
        "mask_time_prob": draw(st.sampled_from([0.0, 0.05])),
        "num_labels": draw(st.integers(1, 4)),
        "seed": draw(st.integers(0, 1000)),
    }


def longest(config: dict[str, Any], shortest: int) -> int:
    """Return a length of some hundred frames at most, as attention grows with their square."""
    strides: list[int] = config["conv_stride"]
    return shortest + min(9000, 300 * math.prod(strides))


KIND = Kind(
    name="hubert",
    architectures=("HubertModel", "HubertForCTC", "HubertForSequenceClassification"),
    write=make_checkpoint,
    configurations=configurations(),
    longest=longest,
    edges=Specimen("HubertForCTC", TRUE_STRIDES),
    edge_lengths=EDGES,
    seconds=(1, 10, 60),
    exports={
        "layer norms, biases": Specimen(
            "HubertForCTC",
            {"feat_extract_norm": "layer", "conv_bias": True, "hidden_act": "quick_gelu", "num_conv_pos_embeddings": 7},
        ),
        "batch norm, regression": Specimen(
            "HubertForSequenceClassification", {"conv_pos_batch_norm": True, "do_normalize": False, "num_labels": 1}
        ),
    },
)
