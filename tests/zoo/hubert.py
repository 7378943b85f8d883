"""Random HuBERT checkpoints."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from export.exportable import Options
from tests.support import make_checkpoint
from tests.zoo import Kind, Specimen
from tests.zoo.speech import TRUE_STRIDES, edges, longest, shared_configurations, stable_or_not


@st.composite
def configurations(draw: st.DrawFn) -> dict[str, Any]:
    """Any shape that transformers accepts, small."""
    own = {"feat_proj_layer_norm": draw(st.booleans()), "conv_pos_batch_norm": draw(st.booleans())}
    return draw(shared_configurations()) | draw(stable_or_not()) | own


KIND = Kind(
    name="hubert",
    architectures=("HubertModel", "HubertForCTC", "HubertForSequenceClassification"),
    write=make_checkpoint,
    configurations=configurations(),
    longest=longest,
    edges=Specimen("HubertForCTC", TRUE_STRIDES),
    edge_lengths=edges(400, frames=(1, 2, 3, 24)),
    seconds=(1, 10, 60),
    exports={
        "layer norms, biases": Specimen(
            "HubertForCTC",
            {"feat_extract_norm": "layer", "conv_bias": True, "hidden_act": "quick_gelu", "num_conv_pos_embeddings": 7},
        ),
        "batch norm, regression, attentions": Specimen(
            "HubertForSequenceClassification",
            {"conv_pos_batch_norm": True, "do_normalize": False, "num_labels": 1},
            Options(attentions=True),
        ),
    },
)
