"""Normalised spectrogram -> tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from export.attention import Attend
from export.feed_forward import FeedForward
from export.spectrogram.config import SpectrogramConfig


class PatchEmbeddings(nn.Module):
    """Patches -> tokens, by a strided convolution."""

    def __init__(self, config: SpectrogramConfig) -> None:
        super().__init__()
        size, strides = (config.patch_size, config.patch_size), (config.mel_stride, config.time_stride)
        self.projection = nn.Conv2d(1, config.hidden_size, size, strides)

    def forward(self, x: Tensor) -> Tensor:
        """Map x [batch, frames, mel bins] to [batch, hidden, mel patches, time patches]."""
        return self.projection(x.transpose(1, 2)[:, None])  # type: ignore[no-any-return]


class Embeddings(nn.Module):
    """Patches with their positions, behind a class and a distillation token.

    In the order of transformers: all times of the lowest mel patches first. Where clips are cropped, all mel patches
    of the first time first, so that a row's tokens stand before those that only a longer neighbour has.
    """

    def __init__(self, config: SpectrogramConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.cls_token, self.distillation_token = (nn.Parameter(torch.zeros(1, 1, width)) for _ in range(2))
        self.patch_embeddings = PatchEmbeddings(config)
        self.position_embeddings = nn.Parameter(torch.zeros(1, config.tokens, width))
        self.patches = (config.mel_patches, config.time_patches)
        self.cropped = config.cropped

    def forward(self, x: Tensor) -> Tensor:
        """Map x [batch, frames, mel bins] to [batch, tokens, hidden]."""
        patches = self.patch_embeddings(x)
        positions = self.position_embeddings[:, 2:]
        if self.cropped:
            patches = patches.permute(0, 3, 2, 1)
            positions = positions.view(self.patches[0], self.patches[1], -1).transpose(0, 1)[: patches.shape[1]]
            patches = (patches + positions).flatten(1, 2)
        else:
            patches = patches.flatten(2).transpose(1, 2) + positions
        first = torch.cat((self.cls_token, self.distillation_token), 1) + self.position_embeddings[:, :2]
        return torch.cat((first.expand(x.shape[0], -1, -1), patches), 1)


class Attention(nn.Module):
    """Multi-head self-attention, with its probabilities for those who ask."""

    def __init__(self, config: SpectrogramConfig) -> None:
        super().__init__()
        self.heads, self.head_size = config.num_heads, config.head_size
        width, inner = config.hidden_size, config.num_heads * config.head_size
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(width, inner, config.qkv_bias) for _ in range(3))
        self.o_proj = nn.Linear(inner, width)
        self.attend = Attend(config.num_heads, config.attentions)

    def forward(self, x: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Map x [batch, tokens, hidden], with `bias` [batch, tokens], if any, added to the scores of each key.

        The probabilities beside it are [batch, heads, tokens, tokens], a query's over all keys; None if not asked for.
        """
        shape = (*x.shape[:2], self.heads, self.head_size)
        query, key = (self.q_proj(x) * self.head_size**-0.5).view(shape), self.k_proj(x).view(shape)
        context, probabilities = self.attend(query, key, self.v_proj(x), None if bias is None else bias[:, :, None])
        return self.o_proj(context), probabilities


class Layer(nn.Module):
    """One transformer layer, norms before each part."""

    def __init__(self, config: SpectrogramConfig) -> None:
        super().__init__()
        self.layernorm_before, self.layernorm_after = (
            nn.LayerNorm(config.hidden_size, config.layer_norm_eps) for _ in range(2)
        )
        self.attention = Attention(config)
        self.feed_forward = FeedForward(config.hidden_size, config.intermediate_size, config.activation)

    def forward(self, x: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Map x [batch, tokens, hidden] with the attention bias [batch, tokens]; the attention's probabilities."""
        attended, probabilities = self.attention(self.layernorm_before(x), bias)
        x = x + attended
        return x + self.feed_forward(self.layernorm_after(x)), probabilities


class Transformer(nn.Module):
    """Patches and layers; keeps every hidden state."""

    def __init__(self, config: SpectrogramConfig) -> None:
        super().__init__()
        self.embeddings = Embeddings(config)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_layers))
        self.layernorm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)

    def forward(self, x: Tensor, bias: Tensor | None) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Map x [batch, frames, mel bins] to the tokens [batch, tokens, hidden] that come out of the last norm.

        And the hidden states 0 to N, before that norm, and the attention probabilities if asked for.
        """
        x = self.embeddings(x)
        states, attentions = [x], []
        for layer in self.layers:
            x, probabilities = layer(x, bias)
            states.append(x)
            if probabilities is not None:
                attentions.append(probabilities)
        return self.layernorm(x), states, attentions
