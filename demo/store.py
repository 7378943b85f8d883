"""Checkpoints as transformers writes them: bf16 weights, whole or not there at all."""

import copy
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from transformers import PreTrainedModel

CHECKPOINTS = Path(__file__).parent / "checkpoints"
Model = TypeVar("Model", bound=PreTrainedModel)


class Processor(Protocol):
    """What belongs to a model's checkpoint: a feature extractor, a tokenizer, a generation configuration."""

    def save_pretrained(self, save_directory: Any, /) -> Any:
        """Write its files into a folder."""


def parameters(model: PreTrainedModel) -> int:
    """How many numbers the network has."""
    return sum(weight.numel() for weight in model.parameters())


def round_to_bf16(model: Model) -> Model:
    """Copy `model` in float32 with weights that are bf16 numbers: what the checkpoint holds, and what is measured."""
    rounded = copy.deepcopy(model)
    with torch.no_grad():
        for weight in rounded.parameters():
            weight.copy_(weight.to(torch.bfloat16).float())
    rounded.train(False)
    return rounded


def save(model: PreTrainedModel, folder: Path, *processors: Processor) -> None:
    """Write a complete checkpoint in bf16, file by file under a temporary name: a reader never finds half of one."""
    scratch = folder / ".new"
    scratch.mkdir(parents=True, exist_ok=True)
    copy.deepcopy(model).bfloat16().save_pretrained(scratch)
    for processor in processors:
        processor.save_pretrained(scratch)
    config = scratch / "config.json"
    # The encoder of a translator remembers the folder that it came from, which is nobody else's.
    kept = [line for line in config.read_text().splitlines(keepends=True) if '"_name_or_path"' not in line]
    config.write_text("".join(kept))
    for file in scratch.iterdir():
        file.chmod(0o644)  # safetensors writes for its owner alone
        file.replace(folder / file.name)
    scratch.rmdir()


def load(kind: type[Model], folder: Path) -> Model:
    """Load the checkpoint in `folder`, its bf16 numbers as float32, ready for inference."""
    model: Model = kind.from_pretrained(folder, dtype=torch.float32)
    model.train(False)
    return model


def size_row(model: PreTrainedModel, folder: Path) -> tuple[str, str]:
    """Parameters, and the bytes of the weights file: the last row of every table."""
    return "parameters; weights file", f"{parameters(model):,}; {(folder / 'model.safetensors').stat().st_size:,} bytes"
