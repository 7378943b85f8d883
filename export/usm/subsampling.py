"""Log mel frames -> the frames of the conformer."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from export.masking import BLOCK, pad_to_block, valid
from export.usm.config import UsmConfig


class CumulativeGroupNorm(nn.Module):
    """Group norm with one group, whose statistics see this frame and those before it."""

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Map x [batch, channels, frames, frequencies] to the same shape."""
        frames = torch.arange(1, x.shape[2] + 1, device=x.device)
        count = (frames * (x.shape[1] * x.shape[3])).to(x.dtype)[None]
        mean = cumulative_sum(_sum(x)) / count
        centred = x - mean[:, None, :, None]
        variance = cumulative_sum(_sum(centred * centred)) / count
        return centred * torch.rsqrt(variance + self.eps)[:, None, :, None] * self.weight[:, None, None]


def _sum(x: Tensor) -> Tensor:
    """Return the sum of each frame, [batch, frames]: over frequencies, then channels; a flat one is less exact."""
    return x.sum(3).sum(1)


def cumulative_sum(x: Tensor) -> Tensor:
    """Return the sums of x [batch, frames] up to each frame: within blocks, and over the blocks before them.

    Runtimes add up one by one, in fp32: over a minute of frames, a flat sum loses a digit.
    """
    blocks = pad_to_block(x).reshape(x.shape[0], -1, BLOCK)
    sums = torch.cumsum(blocks, 2)
    totals = sums[:, :, -1]
    before = torch.cumsum(totals, 1) - totals
    return first_frames((sums + before[:, :, None]).flatten(1), x.shape[1])


def first_frames(x: Tensor, frames: Any) -> Tensor:
    """Return the first `frames` of x [batch, more frames, ...].

    By their indices: the exporter would write the bounds of a slice into every shape behind it, and take minutes.
    """
    return x.index_select(1, torch.arange(frames, device=x.device))


class ConvBlock(nn.Module):
    """Convolution, cumulative group norm, ReLU."""

    def __init__(self, config: UsmConfig, index: int) -> None:
        super().__init__()
        channels, kernel, self.stride = (
            config.conv_channels[index],
            config.conv_kernels[index],
            config.conv_strides[index],
        )
        self.padding = (1, 1, 0, kernel[0] - 1)  # of frequencies on both sides, of time at the end
        self.conv = nn.Conv2d(config.conv_channels[0] if index else 1, channels, kernel, self.stride, bias=False)
        self.norm = CumulativeGroupNorm(channels, config.conv_norm_eps)

    def forward(self, x: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Map x [batch, channels, frames, frequencies] with `length` valid frames to the next block's."""
        keep = valid(x.shape[2], length)[:, None, :, None].to(x.dtype)
        x = self.norm(self.conv(F.pad(x * keep, self.padding)))
        return torch.relu(x), (length + self.stride[0] - 1) // self.stride[0]


class Subsampling(nn.Module):
    """Two convolutions that take a fraction of the frames, and the projection to the conformer's width."""

    def __init__(self, config: UsmConfig) -> None:
        super().__init__()
        self.conv_0, self.conv_1 = ConvBlock(config, 0), ConvBlock(config, 1)
        features = config.conv_channels[1] * config.frequencies
        self.input_proj_linear = nn.Linear(features, config.hidden_size, bias=False)

    def forward(self, mel: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Map mel [batch, frames, bins] with `length` valid frames to ([batch, frames, hidden], valid frames)."""
        x, length = self.conv_0(mel[:, None], length)
        x, length = self.conv_1(x, length)
        return self.input_proj_linear(x.permute(0, 2, 3, 1).flatten(2)), length
