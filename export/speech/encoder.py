"""The encoder: normalised waveform -> frames."""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from export.masking import conv_length, valid
from export.speech.config import ConvAdapter, SpeechEncoderConfig
from export.speech.convolutions import FeatureExtractor
from export.speech.transformer import Transformer


class Encoded(NamedTuple):
    """What an encoder makes of a batch; what stands beyond the valid frames is arbitrary.

    The two counts of frames, [batch], are the same tensor unless the encoder resamples its frames.
    """

    embeddings: Tensor  # [batch, time, size]
    frames: Tensor  # valid ones of the embeddings
    states: list[Tensor]  # the hidden states 0 to N, [batch, encoder time, hidden] each
    attentions: list[Tensor]  # of the layers 0 to N - 1, [batch, heads, encoder time, encoder time] each; or none
    encoder_frames: Tensor  # valid ones of states and attentions


class FeatureProjection(nn.Module):
    """Features -> the transformer's width."""

    def __init__(self, config: SpeechEncoderConfig) -> None:
        super().__init__()
        channels = config.conv_dim[-1]
        self.layer_norm = nn.LayerNorm(channels, config.layer_norm_eps) if config.projection_norm else None
        self.projection = nn.Linear(channels, config.hidden_size) if config.projection else None

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, frames, channels] to [batch, frames, hidden]."""
        if self.layer_norm is not None:
            x = self.layer_norm(x)
        return x if self.projection is None else self.projection(x)


class Adapter(nn.Module):
    """Strided convolutions behind the transformer; each pads a clip's frames by one zero on both sides."""

    def __init__(self, config: ConvAdapter, hidden_size: int) -> None:
        super().__init__()
        self.proj: nn.Linear | None = None
        self.proj_layer_norm: nn.LayerNorm | None = None
        if config.size != hidden_size:
            self.proj, self.proj_layer_norm = nn.Linear(hidden_size, config.size), nn.LayerNorm(config.size)
        self.layers = nn.ModuleList(AdapterLayer(config) for _ in range(config.num_layers))

    def forward(self, x: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Map x [batch, frames, hidden] with `length` valid frames to the adapted frames and how many are valid."""
        if self.proj is not None and self.proj_layer_norm is not None:
            x = self.proj_layer_norm(self.proj(x))
        for layer in self.layers:
            x, length = layer(x, length)
        return x, length


class AdapterLayer(nn.Module):
    """One strided convolution with gates."""

    def __init__(self, config: ConvAdapter) -> None:
        super().__init__()
        self.kernel, self.stride = config.kernel, config.stride
        self.conv = nn.Conv1d(config.size, 2 * config.size, config.kernel, config.stride, padding=1)

    def forward(self, x: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Map x [batch, frames, size] with `length` valid frames to the next layer's."""
        keep = valid(x.shape[1], length)[:, :, None].to(x.dtype)
        x = F.glu(self.conv((x * keep).transpose(1, 2)), dim=1).transpose(1, 2)
        return x, conv_length(length + 2, self.kernel, self.stride)


class SpeechEncoder(nn.Module):
    """Normalised waveform -> frames."""

    def __init__(self, config: SpeechEncoderConfig) -> None:
        super().__init__()
        self.feature_extractor = FeatureExtractor(config)
        self.feature_projection = FeatureProjection(config)
        self.encoder = Transformer(config)
        self.adapter = None if config.conv_adapter is None else Adapter(config.conv_adapter, config.hidden_size)

    def forward(self, waveform: Tensor, lengths: Tensor) -> Encoded:
        """Map waveform [batch, samples] and lengths [batch] to frames."""
        features, frames = self.feature_extractor(waveform, lengths)
        embeddings, states, attentions, encoder_frames = self.encoder(self.feature_projection(features), frames)
        if self.adapter is not None:
            embeddings, frames = self.adapter(embeddings, frames)
        return Encoded(embeddings, frames, states, attentions, encoder_frames)
