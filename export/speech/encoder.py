"""The encoder: normalised waveform -> frames."""

from __future__ import annotations

from torch import Tensor, nn

from export.speech.config import SpeechEncoderConfig
from export.speech.convolutions import FeatureExtractor
from export.speech.transformer import Transformer


class FeatureProjection(nn.Module):
    """Features -> the transformer's width."""

    def __init__(self, config: SpeechEncoderConfig) -> None:
        super().__init__()
        channels = config.conv_dim[-1]
        self.layer_norm = nn.LayerNorm(channels, config.layer_norm_eps) if config.projection_norm else None
        self.projection = nn.Linear(channels, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, frames, channels] to [batch, frames, hidden]."""
        return self.projection(x if self.layer_norm is None else self.layer_norm(x))  # type: ignore[no-any-return]


class SpeechEncoder(nn.Module):
    """Normalised waveform -> frames."""

    def __init__(self, config: SpeechEncoderConfig) -> None:
        super().__init__()
        self.feature_extractor = FeatureExtractor(config)
        self.feature_projection = FeatureProjection(config)
        self.encoder = Transformer(config)

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, list[Tensor], Tensor]:
        """Map waveform [batch, samples] and lengths [batch] to (embeddings, hidden states, valid frames [batch]).

        Embeddings and hidden states are [batch, frames, hidden]; what stands beyond the valid frames is arbitrary.
        """
        features, frames = self.feature_extractor(waveform, lengths)
        embeddings, states = self.encoder(self.feature_projection(features), frames)
        return embeddings, states, frames
