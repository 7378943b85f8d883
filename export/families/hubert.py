"""HuBERT: `HubertModel`, `HubertForCTC`, `HubertForSequenceClassification`."""

from __future__ import annotations

from typing import Any

from engines.manifest import Task
from export.checkpoint import Checkpoint
from export.exportable import Exportable, Options
from export.speech.config import SpeechEncoderConfig
from export.speech.model import export_speech_model

TASKS: dict[str, tuple[Task, ...]] = {
    "HubertModel": ("encode",),
    "HubertForCTC": ("encode", "transcribe"),
    "HubertForSequenceClassification": ("encode", "classify"),
}


def build(checkpoint: Checkpoint, options: Options) -> Exportable:
    """Make the exportable of a HuBERT checkpoint."""
    return export_speech_model(checkpoint, options, TASKS, encoder_config(checkpoint.config))


def encoder_config(config: Any) -> SpeechEncoderConfig:
    """Translate `HubertConfig`."""
    return SpeechEncoderConfig(
        conv_dim=tuple(config.conv_dim),
        conv_kernel=tuple(config.conv_kernel),
        conv_stride=tuple(config.conv_stride),
        conv_bias=config.conv_bias,
        conv_norm=config.feat_extract_norm,
        conv_activation=config.feat_extract_activation,
        projection_norm=config.feat_proj_layer_norm,
        hidden_size=config.hidden_size,
        num_layers=config.num_hidden_layers,
        num_heads=config.num_attention_heads,
        intermediate_size=config.intermediate_size,
        activation=config.hidden_act,
        layer_norm_eps=config.layer_norm_eps,
        positions_kernel=config.num_conv_pos_embeddings,
        positions_groups=config.num_conv_pos_embedding_groups,
        positions_batch_norm=getattr(config, "conv_pos_batch_norm", False),
        stable_layer_norm=config.do_stable_layer_norm,
        adapter_dim=getattr(config, "adapter_attn_dim", None),
    )
