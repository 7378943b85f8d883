"""SEW, which squeezes the frames for its transformer: `SEWModel`, `SEWForCTC`, `SEWForSequenceClassification`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from engines.manifest import Task
from export.checkpoint import Checkpoint
from export.exportable import Exportable, Options
from export.speech.config import SpeechEncoderConfig, shared_config
from export.speech.model import export_speech_model

TASKS: dict[str, tuple[Task, ...]] = {
    "SEWModel": ("encode",),
    "SEWForCTC": ("encode", "transcribe"),
    "SEWForSequenceClassification": ("encode", "classify"),
}


def build(checkpoint: Checkpoint, options: Options) -> Exportable:
    """Make the exportable of a SEW checkpoint."""
    return export_speech_model(checkpoint, options, TASKS, encoder_config(checkpoint.config))


def encoder_config(config: Any) -> SpeechEncoderConfig:
    """Translate `SEWConfig`."""
    return replace(
        shared_config(config),
        projection=tuple(config.conv_dim[-1:]) != (config.hidden_size,),
        squeeze=config.squeeze_factor,
        upsamples=True,
    )
