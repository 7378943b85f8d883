"""Random SEW checkpoints."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from export.exportable import Options
from tests.support import make_checkpoint
from tests.zoo import Kind, Specimen
from tests.zoo.speech import edges, longest, shared_configurations

# The convolution stack of the published checkpoints, narrow.
TRUE_STRIDES: dict[str, Any] = {
    "conv_dim": [40, *[16] * 12],
    "conv_kernel": [10, 3, 1, 3, 1, 3, 1, 3, 1, 2, 1, 2, 1],
    "conv_stride": [5, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1],
}


@st.composite
def configurations(draw: st.DrawFn) -> dict[str, Any]:
    """Any shape that transformers accepts, small."""
    config: dict[str, Any] = draw(shared_configurations())
    if draw(st.booleans()):  # then there is no projection
        config["conv_dim"][-1] = config["hidden_size"]
    return config | {"squeeze_factor": draw(st.integers(1, 4))}


KIND = Kind(
    name="sew",
    architectures=("SEWModel", "SEWForCTC", "SEWForSequenceClassification"),
    write=make_checkpoint,
    configurations=configurations(),
    longest=longest,
    edges=Specimen("SEWForCTC", TRUE_STRIDES),
    edge_lengths=edges(720, frames=(1, 2, 3, 24, 25)),
    seconds=(1, 10, 60),
    exports={
        "attentions": Specimen("SEWForCTC", options=Options(attentions=True)),
        "layer norms, groups of three, weighted layers": Specimen(
            "SEWForSequenceClassification",
            {
                "feat_extract_norm": "layer",
                "squeeze_factor": 3,
                "num_conv_pos_embeddings": 7,
                "use_weighted_layer_sum": True,
            },
        ),
    },
)
