"""The transformer: features -> hidden states."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from transformers.activations import ACT2FN

from export.attention import Attend
from export.feed_forward import FeedForward
from export.masking import MASKED, valid
from export.speech.config import SpeechEncoderConfig


class PositionalConv(nn.Module):
    """Relative positions by a wide grouped convolution; its weight norm is folded into the weight."""

    def __init__(self, config: SpeechEncoderConfig) -> None:
        super().__init__()
        self.conv = nn.Conv1d(
            config.hidden_size,
            config.hidden_size,
            config.positions_kernel,
            config.squeeze,
            padding=config.positions_kernel // 2,
            groups=config.positions_groups,
        )
        self.batch_norm = nn.BatchNorm1d(config.hidden_size) if config.positions_batch_norm else None
        self.drop_last = config.positions_kernel % 2 == 0
        self.activation = ACT2FN[config.conv_activation]

    def forward(self, x: Tensor, keep: Tensor) -> Tensor:
        """Map x [batch, frames, hidden], zero where `keep` [batch, frames, 1] is, to the positions to add.

        One for each frame, or for each group of frames where they are squeezed, and one for what is left over.
        """
        if self.batch_norm is not None:
            x = self.batch_norm(x.transpose(1, 2)).transpose(1, 2) * keep
        x = self.conv(x.transpose(1, 2))
        if self.drop_last:
            x = x[:, :, :-1]
        return self.activation(x).transpose(1, 2)  # type: ignore[no-any-return]


class Attention(nn.Module):
    """Multi-head self-attention, with its probabilities for those who ask."""

    def __init__(self, config: SpeechEncoderConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.heads, self.head_size = config.num_heads, width // config.num_heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(width, width) for _ in range(4))
        self.attend = Attend(config.num_heads, config.attentions)

    def forward(self, x: Tensor, bias: Tensor) -> tuple[Tensor, Tensor | None]:
        """Map x [batch, frames, hidden], with `bias` [batch, frames, 1] added to the scores of each key.

        The probabilities beside it are [batch, heads, frames, frames], a query's over all keys; None if not asked for.
        """
        shape = (*x.shape[:2], self.heads, self.head_size)
        query, key = self.q_proj(x).view(shape) * self.head_size**-0.5, self.k_proj(x).view(shape)
        context, probabilities = self.attend(query, key, self.v_proj(x), bias)
        return self.out_proj(context), probabilities


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
        self.feed_forward = FeedForward(config.hidden_size, config.intermediate_size, config.activation)
        self.final_layer_norm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.adapter_layer: AttentionAdapter | None = None
        # transformers has no adapter in the other kind of layer.
        if self.stable and config.attention_adapter_size is not None:
            self.adapter_layer = AttentionAdapter(config.hidden_size, config.attention_adapter_size)

    def forward(self, x: Tensor, bias: Tensor) -> tuple[Tensor, Tensor | None]:
        """Map x [batch, frames, hidden] with the attention bias [batch, frames, 1]; the attention's probabilities."""
        attended, probabilities = self.attention(self.layer_norm(x) if self.stable else x, bias)
        x = x + attended
        if not self.stable:
            x = self.layer_norm(x)
            return self.final_layer_norm(x + self.feed_forward(x)), probabilities
        x = x + self.feed_forward(self.final_layer_norm(x))
        return (x if self.adapter_layer is None else x + self.adapter_layer(x)), probabilities


class Upsampling(nn.Module):
    """Each squeezed frame -> the frames that it stands for."""

    def __init__(self, config: SpeechEncoderConfig) -> None:
        super().__init__()
        self.factor = config.squeeze
        self.projection = nn.Linear(config.hidden_size, config.hidden_size * config.squeeze)
        self.activation = ACT2FN[config.conv_activation]

    def forward(self, x: Tensor, length: Tensor, frames: int) -> Tensor:
        """Map x [batch, groups, hidden] with `length` valid groups to [batch, frames, hidden].

        Zero for the valid frames that fill no group.
        """
        x = self.activation(self.projection(x)).reshape(x.shape[0], x.shape[1] * self.factor, x.shape[2])
        x = F.pad(x, (0, 0, 0, self.factor - 1))[:, :frames]
        return x * valid(frames, length * self.factor)[:, :, None].to(x.dtype)


class Transformer(nn.Module):
    """Positions and layers; keeps every hidden state.

    With `squeeze`, the layers run on means of so many frames each, and what comes out is upsampled again.
    """

    def __init__(self, config: SpeechEncoderConfig) -> None:
        super().__init__()
        self.stable = config.stable_layer_norm
        self.pos_conv_embed = PositionalConv(config)
        self.layer_norm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.num_layers))
        self.squeeze = config.squeeze
        self.upsample = Upsampling(config) if config.upsamples else None

    def forward(self, x: Tensor, length: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor], Tensor]:
        """Map x [batch, frames, hidden] with `length` valid frames to the last layer's output, at the same frames.

        And the hidden states 0 to N, the attention probabilities if asked for, and the valid frames of both.
        """
        frames = x.shape[1]
        keep = valid(frames, length)[:, :, None].to(x.dtype)
        x = x * keep
        positions = self.pos_conv_embed(x, keep)
        if self.squeeze > 1:
            x = F.avg_pool1d(x.transpose(1, 2), self.squeeze).transpose(1, 2)
            positions = positions[:, : x.shape[1]]
            length = length // self.squeeze
            keep = valid(x.shape[1], length)[:, :, None].to(x.dtype)
        x = x + positions
        bias = (1.0 - keep) * MASKED
        if not self.stable:
            x = self.layer_norm(x)
        states, attentions = [x], []
        for layer in self.layers:
            x, probabilities = layer(x, bias)
            states.append(x)
            if probabilities is not None:
                attentions.append(probabilities)
        if self.stable:
            x = self.layer_norm(x)
        if self.upsample is not None:
            x = self.upsample(x, length, frames)
        return x, states, attentions, length
