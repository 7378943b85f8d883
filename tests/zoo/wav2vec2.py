"""Random wav2vec 2.0 checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from tests.support import make_checkpoint
from tests.zoo import Kind, Specimen
from tests.zoo.speech import TRUE_STRIDES, edges, longest, shared_configurations, stable_or_not

# The adapter of the published translation checkpoints: a frame for eight, of another width.
TRUE_ADAPTER: dict[str, Any] = {"add_adapter": True, "output_hidden_size": 24}
LARGE: dict[str, Any] = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}


def write(folder: Path, architecture: str, seed: int = 0, **config: Any) -> Path:
    """Write a checkpoint; a classifier has no convolutional adapter."""
    if architecture == "Wav2Vec2ForSequenceClassification":
        config["add_adapter"] = False
    return make_checkpoint(folder, architecture, seed, **config)


@st.composite
def configurations(draw: st.DrawFn) -> dict[str, Any]:
    """Any shape that transformers accepts, small."""
    adapter = {
        "add_adapter": draw(st.booleans()),
        "adapter_kernel_size": draw(st.integers(1, 5)),
        "adapter_stride": draw(st.integers(1, 3)),
        "num_adapter_layers": draw(st.integers(0, 3)),
        "output_hidden_size": draw(st.sampled_from([None, 9, 24])),
    }
    return draw(shared_configurations()) | draw(stable_or_not()) | adapter


KIND = Kind(
    name="wav2vec2",
    architectures=("Wav2Vec2Model", "Wav2Vec2ForCTC", "Wav2Vec2ForSequenceClassification"),
    write=write,
    configurations=configurations(),
    longest=longest,
    edges=Specimen("Wav2Vec2ForCTC", TRUE_STRIDES | TRUE_ADAPTER),
    edge_lengths=edges(400, frames=(1, 2, 7, 8, 24)),
    seconds=(1, 10, 60),
    exports={
        "convolutional adapter": Specimen("Wav2Vec2Model", LARGE | TRUE_ADAPTER),
        "attention adapters": Specimen("Wav2Vec2ForCTC", LARGE | {"adapter_attn_dim": 6}),
        "weighted layers": Specimen("Wav2Vec2ForSequenceClassification", {"use_weighted_layer_sum": True}),
    },
)
