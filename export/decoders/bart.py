"""The decoders of BART and mBART (transformers.models.bart and mbart)."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from torch import Tensor

from export.decoders.config import DecoderConfig, State
from export.decoders.weights import renamed

_LAYER = {
    "self_attn.q_proj": "attention.query",
    "self_attn.k_proj": "attention.key",
    "self_attn.v_proj": "attention.value",
    "self_attn.out_proj": "attention.output",
    "self_attn_layer_norm": "attention_norm",
    "encoder_attn.q_proj": "cross_attention.query",
    "encoder_attn.k_proj": "cross_attention.key",
    "encoder_attn.v_proj": "cross_attention.value",
    "encoder_attn.out_proj": "cross_attention.output",
    "encoder_attn_layer_norm": "cross_attention_norm",
    "fc1": "inner",
    "activation_fn": "activation",  # of which one in transformers is learned
    "fc2": "outer",
    "final_layer_norm": "feed_forward_norm",
}
_OTHERS = {
    "model.decoder.embed_tokens": "tokens",
    "model.decoder.embed_positions": "positions",
    "model.decoder.layernorm_embedding": "embedding_norm",
    "model.decoder.layer_norm": "norm",
    "lm_head": "head",
}


def bart_config(config: Any) -> DecoderConfig:
    """Translate `BartConfig`."""
    return DecoderConfig(
        vocabulary_size=config.vocab_size,
        hidden_size=config.d_model,
        num_layers=config.decoder_layers,
        num_heads=config.decoder_attention_heads,
        intermediate_size=config.decoder_ffn_dim,
        activation=config.activation_function,
        norm_eps=1e-5,  # that of nn.LayerNorm, which is not configured
        max_positions=config.max_position_embeddings,
        pre_norm=False,
        position_offset=2,
        embedding_scale=math.sqrt(config.d_model) if config.scale_embedding else 1.0,
    )


def mbart_config(config: Any) -> DecoderConfig:
    """Translate `MBartConfig`: BART with its norms before each part."""
    return replace(bart_config(config), pre_norm=True)


def bart_state(state: State) -> dict[str, Tensor]:
    """Translate the tensors of `BartForCausalLM` or `MBartForCausalLM`."""
    return renamed(state, "model.decoder.layers", _LAYER, _OTHERS)
