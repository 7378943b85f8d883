"""What a family makes of a checkpoint: a module to trace, and the truth that it must agree with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from engines.manifest import Classification, Ctc, Generation, Output, Task

# The time axis of the blocks, and the name of its lengths, where the embeddings have other frames than they.
ENCODER_FRAMES = "encoder_frames"


class Reference(Protocol):
    """transformers on one unpadded clip: the truth."""

    def __call__(
        self, clip: NDArray[np.float32], dtype: torch.dtype = torch.float32
    ) -> dict[str, NDArray[np.floating]]:
        """Return every output for `clip` [samples], computed in `dtype` from the waveform on, without a batch axis."""
        ...


class TextReference(Protocol):
    """transformers on one unpadded clip and the beginning of a text: the truth of a decoder."""

    def __call__(
        self, clip: NDArray[np.float32], tokens: NDArray[np.int64], dtype: torch.dtype = torch.float32
    ) -> dict[str, NDArray[np.floating]]:
        """Return `logits` [steps, vocabulary] after each of `tokens` [steps], given one at a time as in `generate`.

        And what the cross attention reads of the clip, [heads, frames, head_size] each, by its names in the graphs.
        """
        ...


@dataclass(frozen=True)
class Options:
    """What the user chose beyond the checkpoint itself."""

    attentions: bool = False  # the attention probabilities of each layer, as `attentions.N`
    variant: str | None = None  # a named departure from what transformers computes
    head: Path | None = None  # the file of a classifier, as `export.head` describes it


@dataclass(frozen=True)
class Decoder:
    """What writes texts over the frames of an encoder."""

    step: nn.Module  # (tokens, parents, frames, [past and cross attention]) -> logits and the new past
    generation: Generation
    tokenizer: bytes  # the file that `generation` names
    reference: TextReference
    frames: int | None = None  # that its cross attention reads of every clip; None where each clip has its own


@dataclass(frozen=True)
class Exportable:
    """What a family makes of a checkpoint."""

    # (waveform [batch, samples], lengths [batch]) -> the arrays of `outputs`, then of `lengths`, then, with a decoder,
    # what its cross attention reads, with the `frames` of `lengths` as their valid frames.
    module: nn.Module
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
    departed_from: Reference | None = None  # transformers itself, where `reference` is of a variant
    decoder: Decoder | None = None
    head: str | None = None  # SHA-256 of `Options.head`
    padded_to_longest: bool = False  # every clip is padded to what the model takes at most, and takes as long as that
