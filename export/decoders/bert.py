"""BERT and RoBERTa with a language modelling head, as decoders (transformers.models.bert, roberta and its kin)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from export.decoders.config import DecoderConfig, State
from export.decoders.weights import renamed

_LAYER = {
    "attention.self.query": "attention.query",
    "attention.self.key": "attention.key",
    "attention.self.value": "attention.value",
    "attention.output.dense": "attention.output",
    "attention.output.LayerNorm": "attention_norm",
    "crossattention.self.query": "cross_attention.query",
    "crossattention.self.key": "cross_attention.key",
    "crossattention.self.value": "cross_attention.value",
    "crossattention.output.dense": "cross_attention.output",
    "crossattention.output.LayerNorm": "cross_attention_norm",
    "intermediate.dense": "inner",
    "intermediate.intermediate_act_fn": "activation",  # of which one in transformers is learned
    "output.dense": "outer",
    "output.LayerNorm": "feed_forward_norm",
}
_EMBEDDINGS = {"word_embeddings": "tokens", "position_embeddings": "positions", "LayerNorm": "embedding_norm"}
_BERT_HEAD = {
    "cls.predictions.transform.dense": "transform.0",
    "cls.predictions.transform.transform_act_fn": "transform.1",
    "cls.predictions.transform.LayerNorm": "transform.2",
    "cls.predictions.decoder": "head",
}
_ROBERTA_HEAD = {"lm_head.dense": "transform.0", "lm_head.layer_norm": "transform.2", "lm_head.decoder": "head"}


def bert_config(config: Any) -> DecoderConfig:
    """Translate `BertConfig`."""
    return DecoderConfig(
        vocabulary_size=config.vocab_size,
        hidden_size=config.hidden_size,
        num_layers=config.num_hidden_layers,
        num_heads=config.num_attention_heads,
        intermediate_size=config.intermediate_size,
        activation=config.hidden_act,
        norm_eps=config.layer_norm_eps,
        max_positions=config.max_position_embeddings,
        pre_norm=False,
        head_activation=config.hidden_act,
    )


def roberta_config(config: Any) -> DecoderConfig:
    """Translate `RobertaConfig`, whose positions begin behind that of the pad token."""
    first = config.pad_token_id + 1
    return replace(
        bert_config(config),
        max_positions=config.max_position_embeddings - first,
        position_offset=first,
        pad_position=config.pad_token_id,
        head_activation="gelu",
    )


def bert_state(state: State) -> dict[str, Tensor]:
    """Translate the tensors of `BertLMHeadModel`."""
    return _state(state, "bert", _BERT_HEAD, "cls.predictions.bias")


def roberta_state(state: State) -> dict[str, Tensor]:
    """Translate the tensors of `RobertaForCausalLM`."""
    return _state(state, "roberta", _ROBERTA_HEAD, "lm_head.bias")


def _state(state: State, body: str, head: dict[str, str], tied_bias: str) -> dict[str, Tensor]:
    """Translate; every token is of the first type, so the first type's embedding is added to that of each position."""
    kept = {name: tensor for name, tensor in state.items() if name != tied_bias}  # the head's own is the one in use
    types = kept.pop(f"{body}.embeddings.token_type_embeddings.weight")
    others = {f"{body}.embeddings.{name}": ours for name, ours in _EMBEDDINGS.items()} | head
    named = renamed(kept, f"{body}.encoder.layer", _LAYER, others)
    positions = named["positions.weight"]
    named["positions.weight"] = (positions.double() + types[0].double()).to(positions.dtype)
    return named
