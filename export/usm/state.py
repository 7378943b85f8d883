"""The tensors of a transformers encoder, as `UsmModel` loads them."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from export.feed_forward import in_pieces
from export.usm.config import UsmConfig

# The layers of a feed-forward, and what they are called in `export.feed_forward`.
FEED_FORWARD = {
    ".ffw_layer_1.": ".feed_forward.intermediate_dense.",
    ".ffw_layer_2.": ".feed_forward.output_dense.",
}


def adapt_state(original: Any, config: UsmConfig) -> dict[str, Tensor]:
    """Return the state dict of a `Gemma3nAudioEncoder` with what is constant in its attention computed."""
    state: dict[str, Tensor] = original.state_dict()
    for index, block in enumerate(original.conformer):
        prefix, attention = f"conformer.{index}.attention.attn.", block.attention.attn
        del state[f"{prefix}per_dim_scale"], state[f"{prefix}relative_position_embedding.pos_proj.weight"]
        state[f"{prefix}scale"] = attention.q_scale * F.softplus(attention.per_dim_scale.detach())
        state[f"{prefix}positions"] = _positions(attention.relative_position_embedding, config)
    for theirs, ours in FEED_FORWARD.items():
        state = {key.replace(theirs, ours): tensor for key, tensor in state.items()}
    return in_pieces(state)


def _positions(embedding: Any, config: UsmConfig) -> Tensor:
    """Return the projected sines and cosines of each position: [heads, head size, positions]."""
    positions = torch.arange(config.past, -config.future - 1, -1, dtype=torch.float64)
    angles = positions[:, None] * embedding.inv_timescales.double().flatten()
    sines = torch.cat((angles.sin(), angles.cos()), 1)
    projected: Tensor = sines @ embedding.pos_proj.weight.detach().double().T
    return projected.view(-1, config.num_heads, config.head_size).permute(1, 2, 0).float().contiguous()
