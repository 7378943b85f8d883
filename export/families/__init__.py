"""One module per model family, and the table that finds it.

A family turns a checkpoint into an `Exportable`: a torch module to trace, what its outputs are, and the reference that
it must agree with.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from engines.manifest import Classification, Ctc, Output, Task
from export.checkpoint import Checkpoint
from export.errors import UnsupportedError


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
    preprocessor: dict[str, bool | int | float | str | None]
    hidden_size: int
    num_layers: int
    reference: Reference
    ctc: Ctc | None = None
    classification: Classification | None = None


class Reference(Protocol):
    """transformers on one unpadded clip: the truth."""

    def __call__(
        self, clip: NDArray[np.float32], dtype: torch.dtype = torch.float32
    ) -> dict[str, NDArray[np.floating]]:
        """Return every output for `clip` [samples], computed in `dtype` from the waveform on, without a batch axis."""
        ...


class Family(Protocol):
    """What a module of this package provides under the name `build`."""

    def __call__(self, checkpoint: Checkpoint) -> Exportable:
        """Make the exportable; UnsupportedError names what Sonant does not export."""
        ...


def _hubert() -> Family:
    from export.families import hubert

    return hubert.build


# By `model_type` of config.json. Each is imported when it is needed.
FAMILIES: dict[str, Callable[[], Family]] = {
    "hubert": _hubert,
}


def build(checkpoint: Checkpoint) -> Exportable:
    """Make the exportable of `checkpoint`; UnsupportedError where its family or class is not exported."""
    model_type = checkpoint.config.model_type
    if model_type not in FAMILIES:
        raise UnsupportedError(
            f"{checkpoint.source} is a {model_type!r} model; Sonant exports {', '.join(sorted(FAMILIES))}"
        )
    return FAMILIES[model_type]()(checkpoint)
