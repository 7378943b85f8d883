"""Feature extraction as modules that are traced into the graph."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from export.masking import block_sum, count, pad_to_block, valid


class Waveform(nn.Module):
    """What `Wav2Vec2FeatureExtractor` does to one clip, for a padded batch.

    With `normalize`: (x - mean) / sqrt(var + 1e-7) over the valid samples of each row. What stands beyond the lengths
    is replaced by zeros, whatever it holds.
    """

    def __init__(self, normalize: bool) -> None:
        super().__init__()
        self.normalize = normalize

    def forward(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """Map waveform [batch, samples] and lengths [batch] to [batch, samples]."""
        samples = waveform.shape[1]
        mask = valid(samples, lengths)
        x = torch.where(mask, waveform, torch.zeros((), dtype=waveform.dtype))
        if not self.normalize:
            return x
        n = count(lengths, x.dtype)[:, None]
        keep = mask.to(x.dtype)
        centred = (x - block_sum(pad_to_block(x)) / n) * keep
        # Twice: beside a large offset, the first mean is rounded to where faint sound lies.
        centred = (centred - block_sum(pad_to_block(centred)) / n) * keep
        variance = block_sum(pad_to_block(centred * centred)) / n
        return centred / torch.sqrt(variance + 1e-7)
