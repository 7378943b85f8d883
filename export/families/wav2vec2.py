"""wav2vec 2.0, XLS-R and MMS: `Wav2Vec2Model`, `Wav2Vec2ForCTC`, `Wav2Vec2ForSequenceClassification`.

A pre-trained checkpoint is a `Wav2Vec2ForPreTraining`, of which the encoder is exported.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from engines.manifest import Task
from export.checkpoint import Checkpoint
from export.exportable import Exportable, Options
from export.speech.config import ConvAdapter, SpeechEncoderConfig, shared_config
from export.speech.model import export_speech_model

TASKS: dict[str, tuple[Task, ...]] = {
    "Wav2Vec2Model": ("encode",),
    "Wav2Vec2ForPreTraining": ("encode",),
    "Wav2Vec2ForCTC": ("encode", "transcribe"),
    "Wav2Vec2ForSequenceClassification": ("encode", "classify"),
}


def build(checkpoint: Checkpoint, options: Options) -> Exportable:
    """Make the exportable of a wav2vec 2.0 checkpoint."""
    return export_speech_model(checkpoint, options, TASKS, encoder_config(checkpoint.config))


def encoder_config(config: Any) -> SpeechEncoderConfig:
    """Translate `Wav2Vec2Config`."""
    adapter = ConvAdapter(
        kernel=config.adapter_kernel_size,
        stride=config.adapter_stride,
        num_layers=config.num_adapter_layers,
        size=config.output_hidden_size,
    )
    return replace(
        shared_config(config),
        stable_layer_norm=config.do_stable_layer_norm,
        attention_adapter_size=config.adapter_attn_dim,
        conv_adapter=adapter if config.add_adapter else None,
    )
