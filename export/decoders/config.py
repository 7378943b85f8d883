"""The shape of a decoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class DecoderConfig:
    """The shape of a decoder; one per checkpoint, made by the module of its kind."""

    vocabulary_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    activation: str
    norm_eps: float
    max_positions: int  # tokens that the decoder can take
    pre_norm: bool  # norms before each part of a layer, and one behind the last; else behind each part
    position_offset: int = 0  # the position of the first token
    pad_position: int | None = None  # the token that stands at the position of its own id, wherever it comes
    embedding_scale: float = 1.0
    embedding_norm: bool = True
    scales: tuple[float, ...] = ()  # of the attention scores of each layer; empty: one over the root of the head's size
    head_activation: str | None = None  # of a layer and a norm before the logits, where there are some

    @property
    def head_size(self) -> int:
        """Features of one attention head."""
        return self.hidden_size // self.num_heads

    def scale(self, layer: int) -> float:
        """Return the factor of the attention scores of `layer`."""
        return self.scales[layer] if self.scales else float(self.head_size**-0.5)
