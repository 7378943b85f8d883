"""What stands on an encoder: frames -> logits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from export.masking import masked_mean
from export.speech.encoder import Encoded


class CtcHead(nn.Module):
    """Logits of each frame."""

    def __init__(self, hidden_size: int, vocabulary_size: int) -> None:
        super().__init__()
        self.lm_head = nn.Linear(hidden_size, vocabulary_size)

    def forward(self, encoded: Encoded) -> Tensor:
        """Return [batch, frames, vocabulary]."""
        return self.lm_head(encoded.embeddings)  # type: ignore[no-any-return]


class ClassificationHead(nn.Module):
    """Logits of each clip from the mean over its valid frames, of the last layer or of a learned mix of all."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.projector = nn.Linear(config.hidden_size, config.classifier_proj_size)
        self.classifier = nn.Linear(config.classifier_proj_size, config.num_labels)
        self.weighted = config.use_weighted_layer_sum
        if self.weighted:
            self.layer_weights = nn.Parameter(torch.ones(config.num_hidden_layers + 1))

    def forward(self, encoded: Encoded) -> Tensor:
        """Return [batch, classes]. The mean comes before the projector, which is affine: less work, the same result."""
        if not self.weighted:
            mean = masked_mean(encoded.embeddings, encoded.frames)
            return self.classifier(self.projector(mean))  # type: ignore[no-any-return]
        means = torch.stack([masked_mean(state, encoded.encoder_frames) for state in encoded.states], 1)
        weights = torch.softmax(self.layer_weights, -1)[:, None]
        return self.classifier(self.projector((means * weights).sum(1)))  # type: ignore[no-any-return]
