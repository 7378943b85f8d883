"""Which files of a checkpoint hold its weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from fnmatch import fnmatchcase
from pathlib import Path

from export.errors import CheckpointError

Wanted = Callable[[str], bool]
# In the order in which transformers looks for them (`_get_resolved_checkpoint_files` of its modeling_utils): each
# whole, else in shards that NAME.index.json lists. Pickles are read only where there is nothing better.
_NAMES = ("model.safetensors", "pytorch_model.bin")


def is_weights(name: str) -> bool:
    """Whether the file `name` is one that transformers may read weights from: whole, or a shard."""
    return any(fnmatchcase(name, pattern) for pattern in ("model*.safetensors", "pytorch_model*.bin"))


def weight_files(folder: Path, there: Collection[str], wanted: Wanted | None = None) -> list[str]:
    """Return the names of the files that transformers would read the weights of a checkpoint from.

    `there` names what the checkpoint holds; `folder` has the index, if any. Of shards only those are returned that
    hold a tensor whose name is `wanted`. Where nothing is there it is the name of what is missed first. Raises
    CheckpointError where the index cannot be read, or where no tensor is wanted.
    """
    for name in _NAMES:
        if name in there:
            return [name]
        if f"{name}.index.json" in there:
            return _shards(folder / f"{name}.index.json", wanted)
    return [_NAMES[0]]


def _shards(index: Path, wanted: Wanted | None) -> list[str]:
    try:
        shards = json.loads(index.read_bytes())["weight_map"]
        chosen = {shard for tensor, shard in shards.items() if wanted is None or wanted(tensor)}
        names = sorted(chosen)
        beside = all(name and Path(name).name == name for name in names)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{index} cannot be read: {type(error).__name__}: {error}") from None
    if not beside:
        raise CheckpointError(f"{index} names what is no file beside it: the weights must lie in its folder")
    if not names:
        raise CheckpointError(f"{index} names none of the tensors that are exported")
    return names
