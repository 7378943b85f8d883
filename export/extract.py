"""One model out of a checkpoint that holds several, such as the audio tower of a multimodal one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open
from torch import Tensor
from transformers import PreTrainedConfig

from export.errors import CheckpointError, UnsupportedError


@dataclass(frozen=True)
class Part:
    """A model inside that of a checkpoint: nothing else of the checkpoint is read, or downloaded where it can be left.

    The name of each of its tensors holds `prefix`, behind that of the whole model if there is one, which differs
    between versions of transformers: `model.audio_tower.conformer.0...` and `audio_tower.conformer.0...`.
    """

    prefix: str
    config: PreTrainedConfig

    def holds(self, name: str) -> bool:
        """Whether the tensor `name` belongs to this part."""
        return f".{self.prefix}" in f".{name}"

    def read(self, files: Iterable[Path]) -> dict[str, Tensor]:
        """Return the part's tensors by their names in it, from `files` that are mapped, not loaded.

        Raises UnsupportedError where a file is a pickle, which has to be loaded whole; CheckpointError where no file
        has a tensor of the part; what safetensors raises where one is damaged.
        """
        tensors = {}
        for path in files:
            if path.suffix != ".safetensors":
                raise UnsupportedError(f"{path.name}: a part of a checkpoint is read from safetensors only; convert it")
            with safe_open(path, framework="pt") as file:
                for name in filter(self.holds, file.keys()):
                    tensors[name.partition(self.prefix)[2]] = file.get_tensor(name)
        if not tensors:
            raise CheckpointError(f"the checkpoint has no tensor of {self.prefix}*: it was saved without that part")
        return tensors
