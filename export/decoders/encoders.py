"""The encoders that a decoder reads: of frames, as many as a clip is long, or of tokens, as many for every clip."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from engines.generation import FRAMES
from export.checkpoint import Checkpoint
from export.exportable import Exportable, Options
from export.speech.config import SpeechEncoderConfig, check_shape
from export.speech.model import build_encoder, check_extractor

# What makes the exportable of an encoder out of transformers' own, its weights loaded.
Build = Callable[[Any], Exportable]
# What checks the settings of the `encoder` in config.json before any weights are loaded.
# Raises CheckpointError or UnsupportedError.
Prepare = Callable[[Checkpoint, Options], Build]


class EveryToken(nn.Module):
    """An encoder of as many tokens for every clip, with their number for the decoder, which reads all of them."""

    def __init__(self, encoder: nn.Module, tokens: int) -> None:
        super().__init__()
        self.encoder, self.tokens = encoder, tokens

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        """Map waveform [batch, samples] and lengths [batch] to the encoder's arrays, then to the tokens [batch]."""
        return (*self.encoder(waveform, lengths), torch.full_like(lengths, self.tokens))


def every_token(exportable: Exportable, tokens: int) -> Exportable:
    """Return `exportable`, whose embeddings are so many `tokens` of every clip, with these as the clip's frames."""
    return replace(exportable, module=EveryToken(exportable.module, tokens).eval(), lengths=(FRAMES,))


def tokens_of(exportable: Exportable) -> int | None:
    """Return how many embeddings every clip has; None where that depends on the clip."""
    size = exportable.outputs[0].shape[1]
    return size if isinstance(size, int) else None


def speech(encoder_config: Callable[[Any], SpeechEncoderConfig]) -> Prepare:
    """Return what prepares an encoder of frames, of the family whose `encoder_config` this is."""

    def prepare(checkpoint: Checkpoint, options: Options) -> Build:
        config = replace(encoder_config(checkpoint.config.encoder), attentions=options.attentions)
        check_shape(config)
        extractor = checkpoint.feature_extractor()
        check_extractor(extractor)
        return lambda original: build_encoder(original, extractor, config)

    return prepare
