"""GPT-2 with a language modelling head (transformers.models.gpt2)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from export.decoders.config import DecoderConfig, State
from export.decoders.weights import renamed

_LAYER = {
    "attn.query": "attention.query",
    "attn.key": "attention.key",
    "attn.value": "attention.value",
    "attn.c_proj": "attention.output",
    "ln_1": "attention_norm",
    "crossattention.q_attn": "cross_attention.query",
    "crossattention.key": "cross_attention.key",
    "crossattention.value": "cross_attention.value",
    "crossattention.c_proj": "cross_attention.output",
    "ln_cross_attn": "cross_attention_norm",
    "mlp.c_fc": "inner",
    "mlp.act": "activation",  # of which one in transformers is learned
    "mlp.c_proj": "outer",
    "ln_2": "feed_forward_norm",
}
_OTHERS = {
    "transformer.wte": "tokens",
    "transformer.wpe": "positions",
    "transformer.ln_f": "norm",
    "lm_head": "head",
}
# Whose weight is kept as [inputs, outputs], and what the outputs of one are.
_TRANSPOSED = ("c_attn", "q_attn", "c_proj", "c_fc")
_PARTS = {".attn.c_attn": ("query", "key", "value"), ".crossattention.c_attn": ("key", "value")}


def gpt2_config(config: Any) -> DecoderConfig:
    """Translate `GPT2Config`."""
    width, heads, layers = config.hidden_size, config.num_attention_heads, config.num_hidden_layers
    scale = (width // heads) ** -0.5 if config.scale_attn_weights else 1.0
    by_layer = config.scale_attn_by_inverse_layer_idx
    return DecoderConfig(
        vocabulary_size=config.vocab_size,
        hidden_size=width,
        num_layers=layers,
        num_heads=heads,
        intermediate_size=4 * width if config.n_inner is None else config.n_inner,
        activation=config.activation_function,
        norm_eps=config.layer_norm_epsilon,
        max_positions=config.max_position_embeddings,
        pre_norm=True,
        embedding_norm=False,
        scales=tuple(scale / (layer + 1 if by_layer else 1) for layer in range(layers)),
    )


def gpt2_state(state: State) -> dict[str, Tensor]:
    """Translate the tensors of `GPT2LMHeadModel`."""
    linear: dict[str, Tensor] = {}
    for name, tensor in state.items():
        module, _, kind = name.rpartition(".")
        if module.endswith(_TRANSPOSED):
            tensor = tensor.T if kind == "weight" else tensor
        parts = next((parts for end, parts in _PARTS.items() if module.endswith(end)), None)
        if parts is None:
            linear[name] = tensor
            continue
        stem = module.removesuffix("c_attn")
        linear |= {f"{stem}{part}.{kind}": piece for part, piece in zip(parts, tensor.chunk(len(parts)), strict=True)}
    return renamed(linear, "transformer.h", _LAYER, _OTHERS)
