"""One step of a decoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN

from export.decoders.config import DecoderConfig
from export.masking import MASKED, valid


class Projections(nn.Module):
    """The linear layers of one attention; keys and values of cross attention are `CrossKeys`'."""

    def __init__(self, config: DecoderConfig, layer: int, cross: bool) -> None:
        super().__init__()
        width = config.hidden_size
        self.heads, self.scale = config.num_heads, config.scale(layer)
        self.query, self.output = nn.Linear(width, width), nn.Linear(width, width)
        if not cross:
            self.key, self.value = nn.Linear(width, width), nn.Linear(width, width)


class SelfAttention(Projections):
    """Attention of a token over itself and those before it."""

    def __init__(self, config: DecoderConfig, layer: int) -> None:
        super().__init__(config, layer, cross=False)

    def forward(self, x: Tensor, parents: Tensor, past: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Map x [clips, beams, hidden] and `past` [rows, heads, steps, size] to the same shape and the new past."""
        rows = x.flatten(0, 1)
        present = tuple(
            torch.cat((states.index_select(0, parents), split(project(rows[:, None]), self.heads).to(states.dtype)), 2)
            for project, states in zip((self.key, self.value), past, strict=True)
        )
        context = attend(split(self.query(rows[:, None]), self.heads) * self.scale, *present)
        return self.output(context).view(x.shape), (present[0], present[1])


class CrossAttention(Projections):
    """Attention over the frames of a clip, for all of its beams at once."""

    def __init__(self, config: DecoderConfig, layer: int) -> None:
        super().__init__(config, layer, cross=True)

    def forward(self, x: Tensor, cross: tuple[Tensor, Tensor], bias: Tensor) -> Tensor:
        """Map x [clips, beams, hidden], with `bias` [clips, 1, 1, frames] added to the scores."""
        return self.output(attend(split(self.query(x), self.heads) * self.scale, *cross, bias))  # type: ignore[no-any-return]


class DecoderLayer(nn.Module):
    """Self-attention, cross attention and feed-forward, each with a norm before or behind it."""

    def __init__(self, config: DecoderConfig, layer: int) -> None:
        super().__init__()
        self.pre_norm = config.pre_norm
        self.attention, self.cross_attention = SelfAttention(config, layer), CrossAttention(config, layer)
        self.attention_norm, self.cross_attention_norm, self.feed_forward_norm = (norm(config) for _ in range(3))
        self.inner = nn.Linear(config.hidden_size, config.intermediate_size)
        self.outer = nn.Linear(config.intermediate_size, config.hidden_size)
        self.activation = ACT2FN[config.activation]

    def forward(
        self, x: Tensor, parents: Tensor, past: tuple[Tensor, Tensor], cross: tuple[Tensor, Tensor], bias: Tensor
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Map x [clips, beams, hidden] to the same shape and the layer's new past."""
        if self.pre_norm:
            added, present = self.attention(self.attention_norm(x), parents, past)
            x = x + added
            x = x + self.cross_attention(self.cross_attention_norm(x), cross, bias)
            return x + self._feed_forward(self.feed_forward_norm(x)), present
        added, present = self.attention(x, parents, past)
        x = self.attention_norm(x + added)
        x = self.cross_attention_norm(x + self.cross_attention(x, cross, bias))
        return self.feed_forward_norm(x + self._feed_forward(x)), present

    def _feed_forward(self, x: Tensor) -> Tensor:
        return self.outer(self.activation(self.inner(x)))  # type: ignore[no-any-return]


class SharedVocabulary(nn.Module):
    """Token embeddings that are also the weights of the logits.

    They are kept as [hidden, vocabulary], as the product takes them: an exporter would keep a second, transposed copy,
    which for a large vocabulary is most of a decoder.
    """

    def __init__(self, head: nn.Linear) -> None:
        super().__init__()
        self.weight = nn.Parameter(head.weight.detach().T.contiguous())
        self.bias = nn.Parameter(head.bias.detach())

    def embed(self, tokens: Tensor) -> Tensor:
        """Return the embeddings of tokens [clips, beams], [clips, beams, hidden]."""
        return self.weight.index_select(1, tokens.flatten()).T.view(*tokens.shape, -1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [clips, beams, hidden] to logits [clips, beams, vocabulary]."""
        return x @ self.weight + self.bias


class Step(nn.Module):
    """One token of every row -> the logits of the next, and what the step after it needs."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.tokens: nn.Embedding | None = nn.Embedding(config.vocabulary_size, config.hidden_size)
        self.positions = nn.Embedding(config.max_positions + config.position_offset, config.hidden_size)
        self.embedding_norm = norm(config) if config.embedding_norm else None
        self.layers = nn.ModuleList(DecoderLayer(config, layer) for layer in range(config.num_layers))
        self.norm = norm(config) if config.pre_norm else None
        self.transform: nn.Module | None = None
        if config.head_activation is not None:
            dense = nn.Linear(config.hidden_size, config.hidden_size)
            self.transform = nn.Sequential(dense, ACT2FN[config.head_activation], norm(config))
        self.head: Any = nn.Linear(config.hidden_size, config.vocabulary_size)

    def share(self) -> None:
        """Keep the weights of the token embeddings and of the logits once, if they are the same."""
        if self.tokens is not None and torch.equal(self.head.weight, self.tokens.weight):
            self.tokens, self.head = None, SharedVocabulary(self.head)

    def forward(self, tokens: Tensor, parents: Tensor, frames: Tensor, states: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Map tokens [clips, beams] to logits [clips, beams, vocabulary], then keys and values of each layer's past.

        `states` are keys and values of each layer, first of the past [rows, heads, steps, size], of which row r goes on
        with that of `parents` [clips x beams], then of the cross attention [clips, heads, frames, size], of which clip
        c has `frames` [clips].
        """
        pairs = list(zip(states[::2], states[1::2], strict=True))
        past, cross = pairs[: len(self.layers)], pairs[len(self.layers) :]
        x = self._embed(tokens, past[0][0].shape[2])
        bias = (1.0 - valid(cross[0][0].shape[2], frames).to(x.dtype))[:, None, None, :] * MASKED
        present: list[Tensor] = []
        for layer, own, shared in zip(self.layers, past, cross, strict=True):
            x, new = layer(x, parents, own, shared, bias)
            present += new
        x = x if self.norm is None else self.norm(x)
        x = x if self.transform is None else self.transform(x)
        return (self.head(x), *present)

    def _embed(self, tokens: Tensor, steps: int) -> Tensor:
        """Return [clips, beams, hidden] for `tokens` after `steps` others."""
        position = torch.full_like(tokens, steps + self.config.position_offset)
        if self.config.pad_position is not None:
            position = torch.where(tokens == self.config.pad_position, tokens, position)
        embedded = self.head.embed(tokens) if self.tokens is None else self.tokens(tokens)
        x = embedded * self.config.embedding_scale + self.positions(position)
        return x if self.embedding_norm is None else self.embedding_norm(x)  # type: ignore[no-any-return]


class CrossKeys(nn.Module):
    """What the cross attention of each layer reads of a clip: the encoder's frames -> keys and values."""

    def __init__(self, config: DecoderConfig, encoder_size: int, projected: bool) -> None:
        super().__init__()
        width = config.hidden_size
        self.heads = config.num_heads
        self.projection = nn.Linear(encoder_size, width) if projected else None
        self.keys, self.values = (
            nn.ModuleList(nn.Linear(width, width) for _ in range(config.num_layers)) for _ in "kv"
        )

    def forward(self, embeddings: Tensor) -> tuple[Tensor, ...]:
        """Map [clips, frames, encoder's hidden] to key and value of each layer, [clips, heads, frames, size]."""
        x = embeddings if self.projection is None else self.projection(embeddings)
        pairs = zip(self.keys, self.values, strict=True)
        return tuple(split(project(x), self.heads) for pair in pairs for project in pair)


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return softmax(query key^T + bias) value of all heads, side by side: [rows, queries, hidden].

    All are [rows, heads, positions, size]; `bias` has one row of scores for all queries.
    """
    scores = query.to(key.dtype) @ key.transpose(2, 3)
    weights = torch.softmax(scores if bias is None else scores + bias, -1)
    return (weights @ value).transpose(1, 2).flatten(2)


def split(x: Tensor, heads: int) -> Tensor:
    """Return x [rows, positions, hidden] as [rows, heads, positions, size]."""
    return x.view(*x.shape[:2], heads, -1).transpose(1, 2)


def norm(config: DecoderConfig) -> nn.LayerNorm:
    """Return a layer norm of the decoder's width."""
    return nn.LayerNorm(config.hidden_size, config.norm_eps)
