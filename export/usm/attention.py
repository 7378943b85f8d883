"""Attention of each frame to its neighbours, with relative positions, computed chunk by chunk."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from export.masking import MASKED
from export.usm.config import UsmConfig
from export.usm.subsampling import first_frames


class Chunks:
    """How frames are laid out for local attention: chunks of queries, each with the keys that any of them may see."""

    def __init__(self, config: UsmConfig) -> None:
        self.size, self.past, self.future = config.chunk, config.past, config.future
        self.context = self.past + self.size + self.future

    def queries(self, x: Tensor) -> Tensor:
        """Map x [batch, frames, ...] to [batch, chunks, size, ...], with zeros up to a whole chunk."""
        chunks = (x.shape[1] + self.size - 1) // self.size
        x = _pad_frames(x, 0, chunks * self.size - x.shape[1])
        return x.reshape(x.shape[0], chunks, self.size, *x.shape[2:])

    def keys(self, x: Tensor) -> Tensor:
        """Map x [batch, frames, ...] to [batch, chunks, context, ...], with zeros where there is no frame."""
        before, behind = -(-self.past // self.size), -(-self.future // self.size)
        more = before + behind
        chunks = _pad_frames(self.queries(x), before, behind)
        around = torch.cat([chunks[:, index : index - more or None] for index in range(more + 1)], 2)
        first = before * self.size - self.past
        return around[:, :, first : first + self.context]

    def visible(self, keep: Tensor) -> Tensor:
        """Return the mask [batch, 1, chunks, size, context] of the keys that each query may see.

        `keep` [batch, frames, 1] is 0 for padding.
        """
        there = self.keys(keep[:, :, 0])[:, None, :, None] > 0
        query, key = torch.arange(self.size)[:, None], torch.arange(self.context)[None]
        return there & (query <= key) & (key <= query + self.past + self.future)


def _pad_frames(x: Tensor, before: int, behind: int) -> Tensor:
    return F.pad(x, (*(0, 0) * (x.ndim - 2), before, behind))


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
        shape = (*x.shape[:2], self.heads, -1)
        query = self.chunks.queries(self.q_proj(x).view(shape) * self.scale).permute(0, 3, 1, 2, 4)
        key = self.chunks.keys(self.k_proj(x).view(shape)).permute(0, 3, 1, 4, 2)
        value = self.chunks.keys(self.v_proj(x).view(shape)).permute(0, 3, 1, 2, 4)
        scores = query @ key + self._positional(query)
        scores = torch.tanh(scores / self.cap) * self.cap
        # Below any score, as these reach down to the cap.
        scores = torch.where(keys, scores, MASKED - self.cap)
        context = (torch.softmax(scores, -1) @ value).permute(0, 2, 3, 1, 4)  # [batch, chunks, size, heads, head size]
        return first_frames(context.flatten(3).flatten(1, 2), x.shape[1])

    def _positional(self, query: Tensor) -> Tensor:
        """Return what the positions add to the scores of query [batch, heads, chunks, size, head size].

        The score of position p belongs to the key that many frames behind the first that the query sees, which is one
        further for each query: rows of context + 1 values, read as rows of context, are shifted so.
        """
        scores = query @ self.positions[:, None]
        size, context = self.chunks.size, self.chunks.context
        rows = F.pad(scores, (0, context + 1 - scores.shape[-1])).flatten(3)
        return rows[..., : size * context].reshape(*rows.shape[:3], size, context)
