"""A conformer block: feed-forward, local attention, light convolution, feed-forward."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from export.feed_forward import FeedForward
from export.usm.attention import LocalAttention
from export.usm.config import UsmConfig

NORM_EPS = 1e-6  # of the norms for which transformers takes its own default, not the configuration's


class RmsNorm(nn.Module):
    """Division by the root of the mean square."""

    def __init__(self, size: int, eps: float = NORM_EPS) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., size] to the same shape, in the form that runtimes compute with one kernel."""
        return x / torch.sqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


class Clamp(nn.Module):
    """Keeps what stands between the parts of a block within bounds (`gradient_clipping`)."""

    def __init__(self, config: UsmConfig) -> None:
        super().__init__()
        self.bound = config.clipping

    def forward(self, x: Tensor) -> Tensor:
        """Map x to the same shape."""
        if self.bound > torch.finfo(x.dtype).max:  # of a type whose every number is within them
            return x
        return torch.clamp(x, -self.bound, self.bound)


class HalfStep(nn.Module):
    """A feed-forward, four times as wide, between two norms, added to its input with a weight."""

    def __init__(self, config: UsmConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.clamp, self.weight = Clamp(config), config.residual_weight
        self.pre_layer_norm, self.post_layer_norm = RmsNorm(width), RmsNorm(width)
        self.feed_forward = FeedForward(width, 4 * width, "silu", bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, frames, hidden] to the same shape."""
        inner = self.feed_forward(self.pre_layer_norm(self.clamp(x)))
        return x + self.post_layer_norm(self.clamp(inner)) * self.weight  # type: ignore[no-any-return]


class Attention(nn.Module):
    """Local attention between two norms, added to its input."""

    def __init__(self, config: UsmConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.clamp = Clamp(config)
        self.pre_attn_norm, self.post_norm = RmsNorm(width), RmsNorm(width)
        self.attn = LocalAttention(config)
        self.post = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, keys: Tensor) -> Tensor:
        """Map x [batch, frames, hidden], where `keys` may be attended to, to the same shape."""
        context = self.attn(self.pre_attn_norm(self.clamp(x)), keys)
        return x + self.post_norm(self.clamp(self.post(context)))  # type: ignore[no-any-return]


class LightConv(nn.Module):
    """A gate and a convolution of each channel over the frames before, added to its input."""

    def __init__(self, config: UsmConfig) -> None:
        super().__init__()
        width, self.kernel = config.hidden_size, config.light_conv_kernel
        self.clamp = Clamp(config)
        self.pre_layer_norm = RmsNorm(width, config.light_conv_eps)
        self.linear_start = nn.Linear(width, 2 * width, bias=False)
        self.depthwise_conv1d = nn.Conv1d(width, width, self.kernel, groups=width, bias=False)
        self.conv_norm = RmsNorm(width, config.light_conv_eps)
        self.linear_end = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, frames, hidden] to the same shape."""
        gated = F.glu(self.linear_start(self.pre_layer_norm(x)), -1).transpose(1, 2)
        convolved = self.depthwise_conv1d(F.pad(gated, (self.kernel - 1, 0))).transpose(1, 2)
        return x + self.linear_end(F.silu(self.conv_norm(self.clamp(convolved))))  # type: ignore[no-any-return]


class ConformerBlock(nn.Module):
    """One block."""

    def __init__(self, config: UsmConfig) -> None:
        super().__init__()
        self.ffw_layer_start, self.ffw_layer_end = HalfStep(config), HalfStep(config)
        self.attention, self.lconv1d = Attention(config), LightConv(config)
        self.clamp, self.norm = Clamp(config), RmsNorm(config.hidden_size)

    def forward(self, x: Tensor, keep: Tensor, keys: Tensor) -> Tensor:
        """Map x [batch, frames, hidden] to the same shape.

        `keep` [batch, frames, 1] is 0 for padding, `keys` as `LocalAttention` takes it.
        """
        x = self.attention(self.ffw_layer_start(x), keys)
        x = self.ffw_layer_end(self.lconv1d(x * keep))
        return self.norm(self.clamp(x))  # type: ignore[no-any-return]
