"""HuBERT: `HubertModel`, `HubertForCTC`, `HubertForSequenceClassification`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from engines.manifest import Task
from export.checkpoint import Checkpoint
from export.exportable import Exportable, Options
from export.speech.config import SpeechEncoderConfig, shared_config
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
    return replace(
        shared_config(config),
        projection_norm=config.feat_proj_layer_norm,
        positions_batch_norm=config.conv_pos_batch_norm,
        stable_layer_norm=config.do_stable_layer_norm,
        attention_adapter_size=getattr(config, "adapter_attn_dim", None),
    )
