"""Multi-head attention in the forms that runtimes compute with one kernel."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


class Attend(nn.Module):
    """softmax(query key^T + bias) value of each head."""

    def __init__(self, heads: int, shown: bool = False) -> None:
        super().__init__()
        self.heads, self.shown = heads, shown
        # Whether the graph has standard operators only, which GPUs fuse; ONNX Runtime's CPU has a kernel of its own.
        self.standard = False

    def forward(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Map query and key [batch, frames, heads, size] and value [batch, frames, heads x size] to value's shape.

        `bias` [batch, frames, 1] is added to the scores of each key. The probabilities beside it, if they are `shown`,
        are [batch, heads, frames, frames], a query's over all keys.
        """
        if self.shown:
            return attend_openly(query, key, value, bias)
        if self.standard:
            return attend_openly(query, key, value, bias)[0], None
        if bias is not None:
            query, key = with_bias(query, key, bias)
        return attend(query.flatten(2), key.flatten(2), value, self.heads), None


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


def attend_openly(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return what `Attend` does, with the probabilities, in operators that every runtime has.

    Of half precision, the products are in it and the softmax is in fp32, in the order that runtimes for GPUs fuse.
    """
    scores = query.transpose(1, 2) @ key.permute(0, 2, 3, 1)
    if bias is not None:
        scores = scores + bias.to(scores.dtype).transpose(1, 2)[:, None]
    probabilities = torch.softmax(scores.float(), -1)
    context = probabilities.to(value.dtype) @ split_heads(value, query.shape[2])
    return context.transpose(1, 2).flatten(2), probabilities


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
