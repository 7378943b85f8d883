"""Arrays -> files: npz, or safetensors; of one clip, or of many in one file."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from sonant.runs.outcomes import Outcome

ArrayFormat = Literal["npz", "safetensors"]
# What safetensors calls them.
DTYPES = {"float32": "F32", "float16": "F16"}
# Its data begins at a multiple of so many bytes.
ALIGNMENT = 8

Named = Iterator[tuple[str, NDArray[Any]]]


def write_npz(file: BinaryIO, outcome: Outcome) -> None:
    """Write the arrays of a clip by their names, with `duration` in seconds and `frame_rate` in Hz, if it has one."""
    values: dict[str, Any] = {one.name: one.values for one in outcome.arrays}
    values.update({name: np.float64(value) for name, value in _notes(outcome).items()})
    np.savez(file, **values)


def write_safetensors(file: BinaryIO, outcome: Outcome) -> None:
    """Write the arrays of a clip by their names; the metadata has what npz has beside them."""
    values = {one.name: np.ascontiguousarray(one.values) for one in outcome.arrays}
    file.write(save(values, {name: repr(value) for name, value in _notes(outcome).items()}))


WRITE = {"npz": write_npz, "safetensors": write_safetensors}


def _notes(outcome: Outcome) -> dict[str, float]:
    rates = {one.frame_rate for one in outcome.arrays}
    rate = rates.pop() if len(rates) == 1 else None  # layers of different rates have none in common
    return {"duration": outcome.duration, **({} if rate is None else {"frame_rate": rate})}


def join_npz(file: BinaryIO, parts: Mapping[str, Path]) -> None:
    """Write the arrays of all `parts`, safetensors by name: "NAME" for the last layer's output, "NAME.layer6"."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, values in _arrays(parts):
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, values, allow_pickle=False)


def join_safetensors(file: BinaryIO, parts: Mapping[str, Path]) -> None:
    """Write the arrays of all `parts` as join_npz does; one of them is in memory at a time."""
    header: dict[str, Any] = {}
    end = 0
    for name, values in _arrays(parts):
        begin, end = end, end + values.nbytes
        dtype = DTYPES[values.dtype.name]
        header[name] = {"dtype": dtype, "shape": list(values.shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    file.write(len(text).to_bytes(8, "little"))
    file.write(text)
    for _, values in _arrays(parts):
        file.write(values.data)


JOIN = {"npz": join_npz, "safetensors": join_safetensors}


def names_in(path: Path, kind: ArrayFormat) -> set[str]:
    """Return the names of the arrays in the file at `path`. Raises ValueError where it is none, or OSError."""
    try:
        if kind == "npz":
            with zipfile.ZipFile(path) as archive:
                return {name.removesuffix(".npy") for name in archive.namelist()}
        with safe_open(path, framework="numpy") as file:
            return set(file.keys())
    except (zipfile.BadZipFile, SafetensorError) as error:
        raise ValueError(f"{path} is no {kind} file: {error}") from None


def _arrays(parts: Mapping[str, Path]) -> Named:
    for name, path in parts.items():
        with safe_open(path, framework="numpy") as file:
            for key in sorted(file.keys()):
                yield (name if key == "embedding" else f"{name}.{key}"), np.ascontiguousarray(file.get_tensor(key))
