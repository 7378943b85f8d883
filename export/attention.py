"""Multi-head attention in the forms that runtimes compute with one kernel."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor


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
    query, key, value = (split_heads(x, heads) for x in (query, key, value))
    return F.scaled_dot_product_attention(query, key, value, scale=1.0).transpose(1, 2).flatten(2)


def attend_openly(query: Tensor, key: Tensor, value: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    """Return what `attend` does, and the probabilities [batch, heads, frames, frames] of each query over all keys."""
    query, key, value = (split_heads(x, heads) for x in (query, key, value))
    probabilities = torch.softmax(query @ key.transpose(2, 3), -1)
    return (probabilities @ value).transpose(1, 2).flatten(2), probabilities


def split_heads(x: Tensor, heads: int) -> Tensor:
    """Map x [batch, frames, heads x size] to [batch, heads, frames, size]."""
    return x.view(*x.shape[:2], heads, -1).transpose(1, 2)


def with_bias(query: Tensor, key: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Append to query and key [batch, frames, heads, size] what adds `bias` [batch, frames, 1] to the scores of a key.

    A mask so travels as one more component of every key, whose counterpart in the queries is 1. ONNX Runtime's fused
    kernel, which takes no mask, then computes masked attention, and no array of [frames, frames] is ever made: on a CPU
    half the time at 10 s and a third at 30 s, and memory that grows with the length, not with its square.
    """
    # Kernels want heads of a multiple of 8: zeros fill what the bias leaves.
    size = 8 - key.shape[3] % 8
    components = F.pad(bias, (0, size - 1))[:, :, None].expand(-1, -1, key.shape[2], -1)
    return F.pad(query, (0, size), value=1.0), torch.cat((key, components), -1)
