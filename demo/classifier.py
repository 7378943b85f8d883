"""What the classifiers share: their loss, and the name of what they hear."""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from demo.augment import normalise

Target = TypeVar("Target")
Loss = Callable[[torch.Tensor, list[Target], float], torch.Tensor]


def cross_entropy_of(model: PreTrainedModel, names: tuple[str, ...], name: Callable[[Target], str]) -> Loss[Target]:
    """Return the smoothed cross-entropy in nats of the classes `name(target)` of a batch."""

    def loss(rows: torch.Tensor, targets: list[Target], _progress: float) -> torch.Tensor:
        labels = torch.tensor([names.index(name(target)) for target in targets])
        return cross_entropy(model(rows).logits, labels, label_smoothing=0.05)

    return loss


@torch.inference_mode()
def best_class(model: PreTrainedModel, inputs: torch.Tensor) -> str:
    """Name the likeliest class of one row of `inputs` [1, ...]."""
    names: Any = model.config.id2label
    return str(names[int(model(inputs).logits[0].argmax())])


def classify(model: PreTrainedModel, waveform: np.ndarray) -> str:
    """Name the likeliest class of `waveform` float32 [samples], for models that take normalised waveforms."""
    return best_class(model, torch.from_numpy(normalise(waveform))[None])
