"""A convolution stack over the waveform and a transformer over its frames, exact in padded batches.

The parameters carry the names that transformers gives them, so that a checkpoint's state dict loads strictly. What
differs from transformers is the treatment of padding: group norm takes its statistics over valid frames only, padded
frames are zero before the positional convolution, padded keys are masked by a value added to their scores. A clip in
a batch then gets the result of the clip alone (reference: transformers.models.hubert.modeling_hubert).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from transformers.activations import ACT2FN

from export.masking import BLOCK, MASKED, block_sum, conv_length, count, valid

# About how many intermediate features of a feed-forward are computed at a time.
PIECE = 512


@dataclass(frozen=True)
class SpeechEncoderConfig:
    """The shape of a speech encoder; one per checkpoint, made by its family."""

    conv_dim: tuple[int, ...]
    conv_kernel: tuple[int, ...]
    conv_stride: tuple[int, ...]
    conv_bias: bool
    conv_norm: Literal["group", "layer"]
    conv_activation: str
    projection_norm: bool
    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    activation: str
    layer_norm_eps: float
    positions_kernel: int
    positions_groups: int
    positions_batch_norm: bool
    stable_layer_norm: bool
    adapter_dim: int | None

    @property
    def samples_per_frame(self) -> int:
        """Samples that one frame advances."""
        product = 1
        for stride in self.conv_stride:
            product *= stride
        return product

    @property
    def min_samples(self) -> int:
        """The shortest waveform that has a frame; and, for group norm, two values to take a variance of."""
        samples = 1
        for kernel, stride in zip(reversed(self.conv_kernel), reversed(self.conv_stride), strict=True):
            samples = (samples - 1) * stride + kernel
        return max(samples, self.conv_kernel[0] + self.conv_stride[0]) if self.conv_norm == "group" else samples


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
        variance = block_sum(centred * centred) / n
        return centred * (self.weight[:, None, None] * torch.rsqrt(variance + self.eps)) + self.bias[:, None, None]


class ConvLayer(nn.Module):
    """One layer of the convolution stack: convolution, norm or none, activation.

    It runs in two dimensions of which the first has size 1: ONNX Runtime blocks the channels of such a convolution for
    the vector units, and multiplies unfolded windows otherwise.
    """

    def __init__(self, config: SpeechEncoderConfig, index: int) -> None:
        super().__init__()
        channels = config.conv_dim[index]
        self.kernel, self.stride = config.conv_kernel[index], config.conv_stride[index]
        inputs = config.conv_dim[index - 1] if index else 1
        self.conv = nn.Conv2d(inputs, channels, (1, self.kernel), (1, self.stride), bias=config.conv_bias)
        self.activation = ACT2FN[config.conv_activation]
        self.layer_norm: nn.Module | None = None
        if config.conv_norm == "layer":
            self.layer_norm = nn.LayerNorm(channels)
        elif index == 0:
            self.layer_norm = MaskedGroupNorm(channels)

    def forward(self, x: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Map x [batch, channels, 1, time] with `length` valid steps to the next layer's."""
        length = conv_length(length, self.kernel, self.stride)
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
        self.blocks = config.conv_norm == "group"

    def forward(self, x: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Map x [batch, samples] to ([batch, frames, channels], valid frames [batch])."""
        if self.blocks:
            # A few more zeros, so that the frames that group norm sums are whole blocks.
            frames = (x.shape[1] - self.kernel) // self.stride + 1
            needed = ((frames + BLOCK - 1) // BLOCK * BLOCK - 1) * self.stride + self.kernel
            x = F.pad(x, (0, needed - x.shape[1]))
        x = x[:, None, None, :]
        for layer in self.conv_layers:
            x, length = layer(x, length)
        return x[:, :, 0, :].transpose(1, 2), length


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


class PositionalConv(nn.Module):
    """Relative positions by a wide grouped convolution; its weight norm is folded into the weight."""

    def __init__(self, config: SpeechEncoderConfig) -> None:
        super().__init__()
        self.conv = nn.Conv1d(
            config.hidden_size,
            config.hidden_size,
            config.positions_kernel,
            padding=config.positions_kernel // 2,
            groups=config.positions_groups,
        )
        self.batch_norm = nn.BatchNorm1d(config.hidden_size) if config.positions_batch_norm else None
        self.drop_last = config.positions_kernel % 2 == 0
        self.activation = ACT2FN[config.conv_activation]

    def forward(self, x: Tensor, keep: Tensor) -> Tensor:
        """Map x [batch, frames, hidden], zero where `keep` [batch, frames, 1] is, to the positions to add."""
        if self.batch_norm is not None:
            x = self.batch_norm(x.transpose(1, 2)).transpose(1, 2) * keep
        x = self.conv(x.transpose(1, 2))
        if self.drop_last:
            x = x[:, :, :-1]
        return self.activation(x).transpose(1, 2)  # type: ignore[no-any-return]


class Attention(nn.Module):
    """Multi-head self-attention.

    The mask travels as one more component of every key, whose counterpart in the queries is 1. ONNX Runtime's fused
    kernel, which takes no mask, then computes masked attention, and no array of [frames, frames] is ever made: on a CPU
    half the time at 10 s and a third at 30 s, and memory that grows with the length, not with its square.
    """

    def __init__(self, config: SpeechEncoderConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.heads, self.head_size = config.num_heads, width // config.num_heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """Map x [batch, frames, hidden], with `bias` [batch, frames, 1] added to the scores of each key."""
        shape = (*x.shape[:2], self.heads, self.head_size)
        # Kernels want heads of a multiple of 8: zeros fill what the bias leaves.
        filled = (0, 8 - self.head_size % 8)
        query = F.pad(self.q_proj(x).view(shape) * self.head_size**-0.5, filled, value=1.0)
        key = torch.cat((self.k_proj(x).view(shape), self._components(bias, filled[1])), -1)
        context = attend(query.flatten(2), key.flatten(2), self.v_proj(x), self.heads)
        return self.out_proj(context)  # type: ignore[no-any-return]

    def _components(self, bias: Tensor, size: int) -> Tensor:
        """Return `bias` and zeros, [batch, frames, heads, size], for every head."""
        return F.pad(bias, (0, size - 1))[:, :, None].expand(-1, -1, self.heads, -1)


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """Return softmax(query key^T) value for each head; all [batch, frames, heads x size], sizes of their own."""
    if torch.onnx.is_in_onnx_export():
        return torch.onnx.ops.symbolic(
            "com.microsoft::MultiHeadAttention",
            (query, key, value),
            {"num_heads": heads, "scale": 1.0},
            dtype=query.dtype,
            shape=value.shape,
            version=1,
        )
    query, key, value = (x.view(*x.shape[:2], heads, -1).transpose(1, 2) for x in (query, key, value))
    return F.scaled_dot_product_attention(query, key, value, scale=1.0).transpose(1, 2).flatten(2)


class FeedForward(nn.Module):
    """Two linear layers around an activation, as a sum over pieces of the intermediate features.

    A piece stays in the cache between its two products: 10 to 20 % less time on a CPU than the whole at once.
    """

    def __init__(self, config: SpeechEncoderConfig) -> None:
        super().__init__()
        widths = [len(piece) for piece in pieces(torch.empty(config.intermediate_size))]
        self.intermediate_dense = nn.ModuleList(nn.Linear(config.hidden_size, width) for width in widths)
        self.intermediate_act_fn = ACT2FN[config.activation]
        self.output_dense = nn.ModuleList(
            nn.Linear(width, config.hidden_size, bias=index == 0) for index, width in enumerate(widths)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, frames, hidden] to the same shape."""
        parts = [
            outer(self.intermediate_act_fn(inner(x)))
            for inner, outer in zip(self.intermediate_dense, self.output_dense, strict=True)
        ]
        return functools.reduce(torch.add, parts)  # type: ignore[no-any-return]


class AttentionAdapter(nn.Module):
    """A language's bottleneck behind each layer (`adapter_attn_dim`)."""

    def __init__(self, width: int, bottleneck: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.linear_1 = nn.Linear(width, bottleneck)
        self.linear_2 = nn.Linear(bottleneck, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, frames, hidden] to what is added to it."""
        return self.linear_2(torch.relu(self.linear_1(self.norm(x))))  # type: ignore[no-any-return]


class EncoderLayer(nn.Module):
    """One transformer layer; norms before (stable) or after each part."""

    def __init__(self, config: SpeechEncoderConfig) -> None:
        super().__init__()
        self.stable = config.stable_layer_norm
        self.attention = Attention(config)
        self.layer_norm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.feed_forward = FeedForward(config)
        self.final_layer_norm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.adapter_layer: AttentionAdapter | None = None
        if self.stable and config.adapter_dim is not None:  # transformers has no adapter in the other kind of layer
            self.adapter_layer = AttentionAdapter(config.hidden_size, config.adapter_dim)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """Map x [batch, frames, hidden] with the attention bias [batch, frames, 1]."""
        if not self.stable:
            x = self.layer_norm(x + self.attention(x, bias))
            return self.final_layer_norm(x + self.feed_forward(x))  # type: ignore[no-any-return]
        x = x + self.attention(self.layer_norm(x), bias)
        x = x + self.feed_forward(self.final_layer_norm(x))
        return x if self.adapter_layer is None else x + self.adapter_layer(x)


class Transformer(nn.Module):
    """Positions and layers; keeps every hidden state."""

    def __init__(self, config: SpeechEncoderConfig) -> None:
        super().__init__()
        self.stable = config.stable_layer_norm
        self.pos_conv_embed = PositionalConv(config)
        self.layer_norm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.num_layers))

    def forward(self, x: Tensor, length: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Map x [batch, frames, hidden] to the last layer's output and the hidden states 0 to N."""
        keep = valid(x.shape[1], length)[:, :, None].to(x.dtype)
        bias = (1.0 - keep) * MASKED
        x = x * keep
        x = x + self.pos_conv_embed(x, keep)
        if not self.stable:
            x = self.layer_norm(x)
        states = [x]
        for layer in self.layers:
            x = layer(x, bias)
            states.append(x)
        return (self.layer_norm(x) if self.stable else x), states


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


def pieces(features: Tensor, axis: int = 0) -> tuple[Tensor, ...]:
    """Split the intermediate features of a feed-forward, along `axis`."""
    return torch.tensor_split(features, max(1, features.shape[axis] // PIECE), axis)


def adapt_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a transformers encoder's state dict as `SpeechEncoder` loads it: each tensor in the shape it has here."""
    adapted: dict[str, Tensor] = {}
    for key, tensor in fold_weight_norm(state).items():
        stem, _, kind = key.rpartition(".")
        if stem.endswith(".feed_forward.intermediate_dense"):
            adapted |= {f"{stem}.{index}.{kind}": piece for index, piece in enumerate(pieces(tensor))}
        elif stem.endswith(".feed_forward.output_dense") and kind == "weight":
            adapted |= {f"{stem}.{index}.weight": piece for index, piece in enumerate(pieces(tensor, axis=1))}
        elif stem.endswith(".feed_forward.output_dense"):
            adapted[f"{stem}.0.bias"] = tensor
        elif ".conv_layers." in key and key.endswith(".conv.weight"):
            adapted[key] = tensor[:, :, None, :]
        else:
            adapted[key] = tensor
    return adapted


def fold_weight_norm(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return `state` with each weight norm's pair of tensors replaced by the weight that they stand for."""
    folded = dict(state)
    suffix = ".parametrizations.weight.original0"
    for key in [key for key in state if key.endswith(suffix)]:
        prefix = key.removesuffix(suffix)
        gain, direction = folded.pop(key), folded.pop(f"{prefix}.parametrizations.weight.original1")
        axes = [axis for axis in range(direction.ndim) if gain.shape[axis] == 1]
        norm = direction.double().square().sum(axes, keepdim=True).sqrt()
        folded[f"{prefix}.weight"] = (direction.double() * (gain.double() / norm)).to(direction.dtype)
    return folded
