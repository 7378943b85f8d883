"""The Universal Speech Model as Gemma 3n has it: `Gemma3nAudioEncoder`, alone or inside a full checkpoint."""

from __future__ import annotations

from typing import Any

from export.checkpoint import Checkpoint
from export.errors import UnsupportedError
from export.exportable import Exportable, Options
from export.extract import Part
from export.usm.config import usm_config
from export.usm.extractor import MAX_SAMPLES, check_extractor, settings
from export.usm.model import make_model
from export.usm.reference import UsmReference

ENCODER = "Gemma3nAudioEncoder"
# In a full checkpoint.
TOWER = "audio_tower."


def build(checkpoint: Checkpoint, options: Options) -> Exportable:
    """Make the exportable of a checkpoint of the encoder, or of a full one, of which nothing else is read."""
    if options.attentions:
        raise UnsupportedError(f"--outputs attentions: {checkpoint.source} attends in chunks and has no such arrays")
    whole, part = checkpoint.config, None
    if whole.model_type == "gemma3n":
        part = Part(TOWER, whole.audio_config)
    elif checkpoint.architecture != ENCODER:
        raise UnsupportedError(f"{checkpoint.source} is a {checkpoint.architecture}; Sonant exports {ENCODER}")
    config = usm_config(part.config if part else whole)
    extractor = checkpoint.feature_extractor()
    check_extractor(extractor, config.mel_bins)
    original: Any = checkpoint.model(ENCODER, part)
    model = make_model(original, extractor, config)
    return Exportable(
        module=model,
        outputs=model.outputs,
        lengths=model.lengths,
        layers=model.layers,
        tasks=("encode",),
        sample_rate=extractor.sampling_rate,
        min_samples=model.mel.min_samples,
        max_samples=MAX_SAMPLES,
        preprocessor=settings(extractor),
        hidden_size=config.hidden_size,
        num_layers=config.num_layers,
        reference=UsmReference(original, extractor),
    )
