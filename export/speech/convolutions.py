"""The convolution stack: waveform -> features."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from transformers.activations import ACT2FN

from export.masking import BLOCK, block_norm, block_sum, conv_length, count, valid
from export.speech.config import SpeechEncoderConfig


class MaskedGroupNorm(nn.Module):
    """Group norm with one group per channel whose statistics see valid frames only."""

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor, length: Tensor) -> Tensor:
        """Map x [batch, channels, 1, frames], frames a multiple of BLOCK, to the same shape."""
        keep = valid(x.shape[3], length)[:, None, None, :].to(x.dtype)
        n = count(length, x.dtype)[:, None, None, None]
        centred = (x - block_sum(x * keep) / n) * keep
        variance = block_norm(centred).square() / n
        return centred * (self.weight[:, None, None] * torch.rsqrt(variance + self.eps)) + self.bias[:, None, None]


class NormalizedConv(nn.Module):
    """A convolution of one channel and the group norm behind it, as MaskedGroupNorm is, in one.

    Both are linear in the windows of the waveform, so the norm goes into the weights, once the variances are known: the
    array [channels, frames], the largest of all, is written twice and read once. A norm of its own goes over it ten
    times.
    """

    @staticmethod
    def pays(channels: int, kernel: int) -> bool:
        """Whether the windows, which are gone over instead, are small beside that array."""
        return 4 * kernel <= channels

    def __init__(self, channels: int, kernel: int, stride: int, eps: float = 1e-5) -> None:
        super().__init__()
        # No bias: what is added to a channel, its norm takes away.
        self.weight = nn.Parameter(torch.zeros(channels, 1, 1, kernel))
        self.norm_weight = nn.Parameter(torch.ones(channels))
        self.norm_bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("taps", torch.eye(kernel)[:, None, None, :], persistent=False)
        self.stride = stride
        self.eps = eps

    def forward(self, x: Tensor, length: Tensor) -> Tensor:
        """Map x [batch, 1, 1, samples] to [batch, 1, frames, channels], frames a multiple of BLOCK, `length` valid."""
        windows = F.conv2d(x, self.taps, stride=(1, self.stride))[:, :, 0, :]  # type: ignore[arg-type]  # a buffer
        keep = valid(windows.shape[2], length)[:, None, :].to(x.dtype)
        n = count(length, x.dtype)[:, None, None]
        centred = (windows - block_sum(windows * keep) / n) * keep
        weight = self.weight[:, 0, 0, :]
        variance = block_norm(weight @ centred).square() / n
        scaled = weight * (self.norm_weight[:, None] * torch.rsqrt(variance + self.eps))
        bias = self.norm_bias[None, :, None].expand(x.shape[0], -1, 1)
        windows, filters = torch.cat([centred, keep], 1), torch.cat([scaled, bias], 2)
        return (windows.transpose(1, 2) @ filters.transpose(1, 2))[:, None]


class ConvLayer(nn.Module):
    """One layer of the convolution stack: convolution, norm or none, activation.

    It runs in two dimensions of which the first has size 1: ONNX Runtime blocks the channels of such a convolution for
    the vector units, and multiplies unfolded windows otherwise.
    """

    def __init__(self, config: SpeechEncoderConfig, index: int) -> None:
        super().__init__()
        channels = config.conv_dim[index]
        self.kernel, self.stride = config.conv_kernel[index], config.conv_stride[index]
        self.conv: nn.Module
        self.layer_norm: nn.Module | None = None
        has_group_norm = config.conv_norm == "group" and index == 0
        if has_group_norm and NormalizedConv.pays(channels, self.kernel):
            self.conv = NormalizedConv(channels, self.kernel, self.stride)
        else:
            inputs = config.conv_dim[index - 1] if index else 1
            self.conv = nn.Conv2d(inputs, channels, (1, self.kernel), (1, self.stride), bias=config.conv_bias)
            if config.conv_norm == "layer":
                self.layer_norm = nn.LayerNorm(channels)
            elif has_group_norm:
                self.layer_norm = MaskedGroupNorm(channels)
        self.activation = ACT2FN[config.conv_activation]

    def forward(self, x: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Map x [batch, channels, 1, time] with `length` valid steps to the next layer's."""
        length = conv_length(length, self.kernel, self.stride)
        if isinstance(self.conv, NormalizedConv):
            return self.activation(self.conv(x, length)).permute(0, 3, 1, 2), length
        x = self.conv(x)
        if isinstance(self.layer_norm, MaskedGroupNorm):
            x = self.layer_norm(x, length)
        elif self.layer_norm is not None:
            x = self.layer_norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.activation(x), length


class FeatureExtractor(nn.Module):
    """The convolution stack: waveform -> features."""

    def __init__(self, config: SpeechEncoderConfig) -> None:
        super().__init__()
        self.conv_layers = nn.ModuleList(ConvLayer(config, index) for index in range(len(config.conv_dim)))
        self.kernel, self.stride = config.conv_kernel[0], config.conv_stride[0]
        self.has_group_norm = config.conv_norm == "group"

    def forward(self, x: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Map x [batch, samples] to ([batch, frames, channels], valid frames [batch])."""
        if self.has_group_norm:
            # A few more zeros, so that the frames that group norm sums are whole blocks.
            frames = (x.shape[1] - self.kernel) // self.stride + 1
            needed = ((frames + BLOCK - 1) // BLOCK * BLOCK - 1) * self.stride + self.kernel
            x = F.pad(x, (0, needed - x.shape[1]))
        x = x[:, None, None, :]
        for layer in self.conv_layers:
            x, length = layer(x, length)
        return x[:, :, 0, :].transpose(1, 2), length
