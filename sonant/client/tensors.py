"""An answer of safetensors (https://huggingface.co/docs/safetensors) -> encodings, without a copy of the values."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import numpy as np

from sonant.client.errors import AnswerError
from sonant.client.results import Encoding

MEDIA = "application/vnd.safetensors"
DTYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2")}
# The number of the clip, and the layer where one was asked for.
NAME = re.compile(r"\d+(?:\.layer(\d+))?")


def read(response: httpx.Response) -> list[Encoding]:
    """Return the arrays of one clip, in the order of the answer. Raises AnswerError."""
    try:
        windows = int(response.headers.get("x-windows", "1"))
        found = list(_encodings(response.content, windows))
        if not found:
            raise ValueError("there is no array")
        return found
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise AnswerError(f"the answer is not an encoding: {error!r}") from None


def _encodings(content: bytes, windows: int) -> list[Encoding]:
    start = 8 + int.from_bytes(content[:8], "little")
    header: dict[str, Any] = json.loads(content[8:start])
    notes = header.pop("__metadata__")
    return [_encoding(content, start, name, header[name], notes, windows) for name in header]


def _encoding(
    content: bytes, start: int, name: str, entry: dict[str, Any], notes: dict[str, str], windows: int
) -> Encoding:
    matched = NAME.fullmatch(name)
    if matched is None:
        raise ValueError(f"an array is called {name!r}")
    begin, end = entry["data_offsets"]
    dtype = DTYPES[entry["dtype"]]
    if not 0 <= begin <= end or min(entry["shape"], default=0) < 0:
        raise ValueError(f"the array {name!r} is of shape {entry['shape']}, from {begin} to {end}")
    values = np.frombuffer(content, dtype, (end - begin) // dtype.itemsize, start + begin)
    rate = notes.get(f"{name}.frame_rate")
    return Encoding(
        values.reshape(entry["shape"]),
        None if matched[1] is None else int(matched[1]),
        None if rate is None else float(rate),
        float(notes[f"{name}.duration"]),
        windows,
    )
