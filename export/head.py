"""A linear classifier over the pooled embeddings, trained apart from the encoder (`--head FILE`).

The file is in the safetensors format:
- `weight` [classes, hidden] and `bias` [classes], both in float32, bfloat16 or float16;
- in its metadata, `labels`: a JSON list of one string for each class. Without it they are LABEL_0, LABEL_1 and so on;
- in its metadata, optionally, `problem_type`, as in config.json: single_label_classification,
  multi_label_classification or regression. Without it, regression for one class and single_label_classification else.

The logits are weight @ pooled + bias, where `pooled` is the output of that name.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from engines.digest import sha256
from engines.manifest import Classification, Output, ProblemType
from export.errors import CheckpointError, UnsupportedError
from export.exportable import Exportable, Reference

TYPES = (torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Head:
    """What the file holds, in fp32."""

    path: Path
    weight: Tensor  # [classes, hidden]
    bias: Tensor  # [classes]
    classification: Classification
    sha256: str  # of the file


def read_head(path: Path) -> Head:
    """Read the file; CheckpointError where it is not as the module says."""
    try:
        content = sha256(path)
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"--head {path} cannot be read ({error}): it must be a safetensors file") from None
    if set(tensors) != {"weight", "bias"}:
        raise CheckpointError(f"--head {path} has the tensors {', '.join(sorted(tensors))}, not weight and bias")
    weight, bias = tensors["weight"], tensors["bias"]
    if weight.ndim != 2 or bias.shape != weight.shape[:1] or 0 in weight.shape:
        shapes = f"{list(weight.shape)} and {list(bias.shape)}"
        raise CheckpointError(f"--head {path}: weight and bias are {shapes}, not [classes, hidden] and [classes]")
    if {weight.dtype, bias.dtype} - set(TYPES):
        raise CheckpointError(f"--head {path}: weight and bias must be float32, bfloat16 or float16")
    weight, bias = weight.float(), bias.float()
    if not (weight.isfinite().all() and bias.isfinite().all()):
        raise CheckpointError(f"--head {path} holds NaN or infinity")
    return Head(path, weight, bias, _classification(path, metadata, len(bias)), content)


def _classification(path: Path, metadata: dict[str, str], classes: int) -> Classification:
    labels = [f"LABEL_{index}" for index in range(classes)]
    if "labels" in metadata:
        try:
            labels = json.loads(metadata["labels"])
        except ValueError:
            raise CheckpointError(f"--head {path}: the labels of its metadata are not JSON") from None
        if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            raise CheckpointError(f"--head {path}: the labels of its metadata are not a list of strings")
        if len(labels) != classes:
            raise CheckpointError(f"--head {path} has {len(labels)} labels for {classes} classes")
        if repeated := [label for label, count in Counter(labels).items() if count > 1]:
            raise CheckpointError(f"--head {path}: the labels of its metadata name {', '.join(repeated)} twice")
    inferred: ProblemType = "regression" if classes == 1 else "single_label_classification"
    problem = metadata.get("problem_type", inferred)
    if problem not in get_args(ProblemType):
        raise CheckpointError(f"--head {path}: problem_type {problem!r} is none of {', '.join(get_args(ProblemType))}")
    return Classification.model_validate({"labels": labels, "problem_type": problem})


def add_head(exportable: Exportable, head: Head) -> Exportable:
    """Return `exportable` with `head` on it: the output `logits` and the task classify.

    Raises UnsupportedError where the checkpoint has logits of its own, CheckpointError where the head does not fit it.
    """
    names = [output.name for output in exportable.outputs]
    if "logits" in names:
        raise UnsupportedError(f"--head {head.path}: the checkpoint has a head already; choose one without")
    if "pooled" not in names:
        raise UnsupportedError(f"--head {head.path}: the checkpoint has no pooled embeddings that it could classify")
    (classes, hidden), (size,) = head.weight.shape, exportable.outputs[names.index("pooled")].shape[1:]
    if hidden != size:
        raise CheckpointError(
            f"--head {head.path} is for embeddings of {hidden} features; the checkpoint's have {size}"
        )
    logits = Output(name="logits", shape=("batch", classes))
    return replace(
        exportable,
        module=_Classified(exportable.module, names.index("pooled"), len(names), head).eval(),
        outputs=(*exportable.outputs, logits),
        layers=exportable.layers | {"logits": exportable.layers["pooled"]},
        tasks=(*exportable.tasks, "classify"),
        reference=_ClassifiedReference(exportable.reference, head),
        departed_from=exportable.departed_from and _ClassifiedReference(exportable.departed_from, head),
        classification=head.classification,
        head=head.sha256,
    )


class _Classified(nn.Module):
    """A module with logits behind its other outputs, and before its lengths."""

    def __init__(self, module: nn.Module, pooled: int, outputs: int, head: Head) -> None:
        super().__init__()
        self.module, self.pooled, self.count = module, pooled, outputs
        self.weight, self.bias = nn.Parameter(head.weight), nn.Parameter(head.bias)

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        """Map waveform [batch, samples] and lengths [batch] to the module's arrays, with logits [batch, classes]."""
        arrays = self.module(waveform, lengths)
        logits = nn.functional.linear(arrays[self.pooled], self.weight, self.bias)
        return (*arrays[: self.count], logits, *arrays[self.count :])


class _ClassifiedReference:
    """The reference of the encoder, with the head's logits from its pooled embeddings."""

    def __init__(self, reference: Reference, head: Head) -> None:
        self._reference, self._weight, self._bias = reference, head.weight.numpy(), head.bias.numpy()

    def __call__(
        self, clip: NDArray[np.float32], dtype: torch.dtype = torch.float32
    ) -> dict[str, NDArray[np.floating]]:
        """Return each output of `clip` [samples] without a batch axis, computed in fp32 or fp64."""
        outputs = self._reference(clip, dtype)
        pooled = outputs["pooled"]  # in the type that the head is computed in, too
        return outputs | {"logits": self._weight.astype(pooled.dtype) @ pooled + self._bias.astype(pooled.dtype)}
