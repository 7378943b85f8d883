"""What a family makes of a checkpoint: a module to trace, and the truth that it must agree with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from engines.manifest import Classification, Ctc, Output, Task


class Reference(Protocol):
    """transformers on one unpadded clip: the truth."""

    def __call__(
        self, clip: NDArray[np.float32], dtype: torch.dtype = torch.float32
    ) -> dict[str, NDArray[np.floating]]:
        """Return every output for `clip` [samples], computed in `dtype` from the waveform on, without a batch axis."""
        ...


@dataclass(frozen=True)
class Options:
    """What the user chose beyond the checkpoint itself."""

    attentions: bool = False  # the attention probabilities of each layer, as `attentions.N`
    variant: str | None = None  # a named departure from what transformers computes


@dataclass(frozen=True)
class Exportable:
    """What a family makes of a checkpoint."""

    module: nn.Module  # (waveform [batch, samples], lengths [batch]) -> the arrays of `outputs`, then of `lengths`
    outputs: tuple[Output, ...]
    lengths: tuple[str, ...]
    layers: dict[str, int]  # how many encoder layers each output needs
    tasks: tuple[Task, ...]
    sample_rate: int
    min_samples: int
    max_samples: int | None  # the longest clip that the model takes; None where only memory bounds it
    preprocessor: dict[str, bool | int | float | str | None]
    hidden_size: int
    num_layers: int
    reference: Reference
    ctc: Ctc | None = None
    classification: Classification | None = None
