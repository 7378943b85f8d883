"""Valid lengths of padded rows: how they shrink, and sums that see nothing else."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

# Added to the attention scores of padding. Finite in fp16, and far below any real score.
MASKED = -30000.0
# Sums over time run in blocks of this many values and then over the blocks: a flat fp32 sum over a minute of samples
# is off by 2e-5, this one by 1e-7.
BLOCK = 32


def conv_length(length: Tensor, kernel: int, stride: int) -> Tensor:
    """Return the frames that a convolution without padding makes of `length`, 0 where it is shorter than the kernel."""
    return torch.clamp(length - kernel + stride, min=0) // stride


def valid(size: int, length: Tensor) -> Tensor:
    """Return the mask [batch, size] that is true before each row's `length` [batch]."""
    return torch.arange(size, device=length.device)[None, :] < length[:, None]


def count(length: Tensor, dtype: torch.dtype) -> Tensor:
    """Return `length` as a divisor: at least 1, so that an empty row gives zero and no NaN."""
    return torch.clamp(length, min=1).to(dtype)


def block_sum(x: Tensor) -> Tensor:
    """Return the sum over the last axis, whose size is a multiple of BLOCK, kept as an axis of 1."""
    blocks = x.reshape(*x.shape[:-1], x.shape[-1] // BLOCK, BLOCK).sum(-1)
    return blocks.sum(-1, keepdim=True)


def block_norm(x: Tensor) -> Tensor:
    """Return the root of the sum of squares over the last axis, as `block_sum` does."""
    blocks = torch.linalg.vector_norm(x.reshape(*x.shape[:-1], x.shape[-1] // BLOCK, BLOCK), dim=-1)
    return torch.linalg.vector_norm(blocks, dim=-1, keepdim=True)  # type: ignore[no-any-return]


def pad_to_block(x: Tensor) -> Tensor:
    """Return `x` with zeros appended to its last axis up to a multiple of BLOCK."""
    size = x.shape[-1]
    return F.pad(x, (0, (size + BLOCK - 1) // BLOCK * BLOCK - size))


def masked_mean(x: Tensor, length: Tensor) -> Tensor:
    """Return the mean of x [batch, frames, hidden] over the first `length` frames of each row: [batch, hidden].

    In fp32: a sum over a minute of frames, and their number, are beyond half precision.
    """
    x = x.float()
    mask = valid(x.shape[1], length)[:, :, None].to(x.dtype)
    return (x * mask).sum(1) / count(length, x.dtype)[:, None]
