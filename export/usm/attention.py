"""Attention of each frame to its neighbours, with relative positions, computed chunk by chunk."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from export.attention import split_heads
from export.masking import MASKED
from export.usm.config import UsmConfig
from export.usm.subsampling import first_frames


class Chunks:
    """How frames are laid out for local attention: chunks of queries, each with the keys that any of them may see."""

    def __init__(self, config: UsmConfig) -> None:
        self.size, self.past, self.future = config.chunk, config.past, config.future
        self.context = self.past + self.size + self.future

    def queries(self, x: Tensor) -> Tensor:
        """Map x [batch, heads, frames, features] to [batch, heads, chunks, size, features], whole chunks by zeros."""
        chunks = (x.shape[2] + self.size - 1) // self.size
        x = F.pad(x, (0, 0, 0, chunks * self.size - x.shape[2]))
        return x.reshape(*x.shape[:2], chunks, self.size, x.shape[3])

    def keys(self, x: Tensor) -> Tensor:
        """Map x [batch, heads, frames, features] to [batch, heads, chunks, context, features].

        Zeros stand where there is no frame.
        """
        before, behind = -(-self.past // self.size), -(-self.future // self.size)
        more = before + behind
        chunks = F.pad(self.queries(x), (0, 0, 0, 0, before, behind))
        around = torch.cat([chunks[:, :, index : index - more or None] for index in range(more + 1)], 3)
        first = before * self.size - self.past
        return around[:, :, :, first : first + self.context]

    def visible(self, keep: Tensor) -> Tensor:
        """Return the mask [batch, 1, chunks, size, context] of the keys that each query may see.

        `keep` [batch, frames, 1] is 0 for padding.
        """
        there = self.keys(keep[:, None]).transpose(3, 4) > 0
        query, key = torch.arange(self.size)[:, None], torch.arange(self.context)[None]
        return there & (query <= key) & (key <= query + self.past + self.future)


class LocalAttention(nn.Module):
    """Multi-head attention whose scores are capped, with a learned projection of sines as relative positions."""

    def __init__(self, config: UsmConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.chunks = Chunks(config)
        self.heads, self.cap = config.num_heads, config.logit_cap
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(width, width, bias=False) for _ in range(3))
        # Of the queries; and what each position, from `past` frames back to `future` ahead, adds to the keys.
        self.scale = nn.Parameter(torch.ones(config.head_size))
        self.positions = nn.Parameter(torch.zeros(self.heads, config.head_size, config.past + config.future + 1))

    def forward(self, x: Tensor, keys: Tensor) -> Tensor:
        """Map x [batch, frames, hidden], with `Chunks.visible` as `keys`, to the same shape."""
        query, key, value = (split_heads(layer(x), self.heads) for layer in (self.q_proj, self.k_proj, self.v_proj))
        query, key, value = self.chunks.queries(query * self.scale), self.chunks.keys(key), self.chunks.keys(value)
        scores = (query @ key.transpose(3, 4)).float() + self._positional(query).float()
        scores = torch.tanh(scores / self.cap) * self.cap
        # Below any score, as these reach down to the cap.
        scores = torch.where(keys, scores, MASKED - self.cap)
        context = (torch.softmax(scores, -1).to(value.dtype) @ value).flatten(
            2, 3
        )  # [batch, heads, frames and more, head size]
        return first_frames(context.transpose(1, 2).flatten(2), x.shape[1])

    def _positional(self, query: Tensor) -> Tensor:
        """Return what the positions add to the scores of query [batch, heads, chunks, size, head size].

        The score of position p belongs to the key that many frames behind the first that the query sees, which is one
        further for each query: rows of context + 1 values, read as rows of context, are shifted so.
        """
        scores = query @ self.positions[:, None]
        size, context = self.chunks.size, self.chunks.context
        rows = F.pad(scores, (0, context + 1 - scores.shape[-1])).flatten(3)
        return rows[..., : size * context].reshape(*rows.shape[:3], size, context)
