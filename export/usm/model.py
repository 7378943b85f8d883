"""A USM encoder from the waveform to every output."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from engines.generation import FRAMES
from engines.manifest import Output
from export.exportable import ENCODER_FRAMES
from export.masking import masked_mean, valid
from export.usm.attention import Chunks
from export.usm.config import UsmConfig
from export.usm.conformer import ConformerBlock
from export.usm.mel import MelFrames
from export.usm.state import adapt_state
from export.usm.subsampling import Subsampling


class UsmModel(nn.Module):
    """Waveform and lengths -> the arrays of `outputs`, then the valid frames of `lengths`.

    `hidden_states.0` is what enters the first block, `hidden_states.N` what leaves the Nth. The embeddings are one
    frame in `reduction` of the last.
    """

    def __init__(self, mel: MelFrames, config: UsmConfig) -> None:
        super().__init__()
        self.mel, self.chunks, self.reduction = mel, Chunks(config), config.reduction
        self.subsample_conv_projection = Subsampling(config)
        self.conformer = nn.ModuleList(ConformerBlock(config) for _ in range(config.num_layers))
        samples = mel.hop * config.mel_frames_per_frame
        encoder_frames = ENCODER_FRAMES if config.reduction > 1 else FRAMES
        states = [
            _frames(f"hidden_states.{index}", config.hidden_size, encoder_frames, samples)
            for index in range(config.num_layers + 1)
        ]
        complete = (
            _frames("embeddings", config.hidden_size, FRAMES, samples * config.reduction),
            Output(name="pooled", shape=("batch", config.hidden_size)),
        )
        self.outputs = (*complete, *states)
        self.lengths = (FRAMES, ENCODER_FRAMES) if config.reduction > 1 else (FRAMES,)
        # How many blocks each output needs.
        self.layers = dict.fromkeys((output.name for output in complete), config.num_layers)
        self.layers |= {output.name: index for index, output in enumerate(states)}

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        """Map waveform [batch, samples] and lengths [batch] to embeddings, pooled, hidden states and valid frames."""
        x, encoder_frames = self.subsample_conv_projection(*self.mel(waveform, lengths))
        keep = valid(x.shape[1], encoder_frames)[:, :, None].to(x.dtype)
        keys = self.chunks.visible(keep)
        states = [x]
        for block in self.conformer:
            states.append(block(states[-1], keep, keys))
        frames = (encoder_frames + self.reduction - 1) // self.reduction
        embeddings = states[-1][:, :: self.reduction]
        counts = (frames, encoder_frames)[: len(self.lengths)]
        return (embeddings, masked_mean(embeddings, frames), *states, *counts)


def _frames(name: str, size: int, axis: str, samples: int) -> Output:
    return Output(name=name, shape=("batch", axis, size), lengths=axis, samples_per_frame=samples)


def make_model(original: Any, extractor: Any, config: UsmConfig) -> UsmModel:
    """Return the model with the parameters of `original`, a `Gemma3nAudioEncoder`: its own, not copies.

    Raises RuntimeError where a tensor has no place here, or another shape.
    """
    mel = MelFrames(extractor)
    with torch.device("meta"):
        model = UsmModel(mel, config)
    model.load_state_dict(adapt_state(original, config), strict=True, assign=True)
    return model.eval()
