"""How arrays stand in an answer: as JSON, npy or safetensors, made piece by piece.

The same bytes, whether all of an array is there or it is still being computed: only its shape must be known.
"""

from __future__ import annotations

import base64
import io
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from server.http.body import JSON
from server.schemas.options import DType, EncodeOptions

NPY, SAFETENSORS = "application/x-npy", "application/vnd.safetensors"
# Values that are encoded at a time: in JSON some milliseconds, in which no other thread runs.
PIECE_VALUES = 1 << 17
DTYPES: dict[DType, np.dtype[Any]] = {"float32": np.dtype("<f4"), "float16": np.dtype("<f2")}
# The names of safetensors' format.
SAFETENSORS_NAMES: dict[DType, str] = {"float32": "F32", "float16": "F16"}

Array = NDArray[np.floating]


@dataclass(frozen=True)
class Part:
    """One array of an answer: of clip `index`, which has a `duration` in seconds and was cut into `windows`."""

    index: int
    layer: int | None
    shape: tuple[int, ...]
    frame_rate_hz: float | None
    duration: float
    windows: int

    @property
    def name(self) -> str:
        """In safetensors: "0" for clip 0, "0.layer6" for its hidden state 6."""
        return str(self.index) if self.layer is None else f"{self.index}.layer{self.layer}"

    @property
    def values(self) -> int:
        """Their number."""
        return math.prod(self.shape)

    def size(self, dtype: DType) -> int:
        """Return the bytes of the values."""
        return self.values * DTYPES[dtype].itemsize


class Layout(ABC):
    """What is written around arrays, and how they are encoded; for one answer.

    It is `begin`, then for each part `open`, `encode` for each piece of its array, and `close`; then `end`.
    """

    media: str

    def __init__(self, parts: Sequence[Part], options: EncodeOptions, model: str) -> None:
        self.parts = parts
        self._options = options
        self._model = model

    @property
    def headers(self) -> dict[str, str]:
        """Beside Content-Type and Content-Length."""
        return {
            "X-Windows": ",".join(
                str(windows) for windows in {part.index: part.windows for part in self.parts}.values()
            )
        }

    @property
    def length(self) -> int | None:
        """Bytes of the whole answer; None if only its making tells. Ask before anything is encoded, in a thread."""
        size = sum(part.size(self._options.dtype) for part in self.parts)
        return len(self.begin()) + size

    @abstractmethod
    def begin(self) -> bytes:
        """Return what stands before all arrays."""

    def open(self, part: Part) -> bytes:
        """Return what stands before an array."""
        return b""

    def encode(self, piece: Array) -> bytes:
        """Encode a piece of an array, of the dtype that was asked for and in C order."""
        return piece.tobytes()

    def close(self, part: Part) -> bytes:
        """Return what stands behind an array."""
        return b""

    def end(self) -> bytes:
        """Return what stands behind all arrays."""
        return b""


class Npy(Layout):
    """One array, as numpy.save writes it."""

    media = NPY

    @property
    def headers(self) -> dict[str, str]:
        """With the frame rate, for which npy has no place."""
        rate = self.parts[0].frame_rate_hz
        return super().headers | ({} if rate is None else {"X-Frame-Rate": f"{rate:g}"})

    def begin(self) -> bytes:
        """Return the header."""
        file = io.BytesIO()
        description = {"descr": DTYPES[self._options.dtype].str, "fortran_order": False, "shape": self.parts[0].shape}
        np.lib.format.write_array_header_1_0(file, description)
        return file.getvalue()


class Safetensors(Layout):
    """Arrays by name, with the metadata of each under its name (https://huggingface.co/docs/safetensors)."""

    media = SAFETENSORS

    def begin(self) -> bytes:
        """Return the header."""
        header: dict[str, Mapping[str, Any]] = {"__metadata__": self._metadata()}
        offset = 0
        for part in self.parts:
            end = offset + part.size(self._options.dtype)
            name = SAFETENSORS_NAMES[self._options.dtype]
            header[part.name] = {"dtype": name, "shape": part.shape, "data_offsets": (offset, end)}
            offset = end
        text = orjson.dumps(header)
        text += b" " * (-len(text) % 8)  # so that the values are aligned
        return len(text).to_bytes(8, "little") + text

    def _metadata(self) -> dict[str, str]:
        found = {"model": self._model}
        for part in self.parts:
            found[f"{part.name}.duration"] = f"{part.duration}"
            if part.frame_rate_hz is not None:
                found[f"{part.name}.frame_rate"] = f"{part.frame_rate_hz}"
        return found


class _Json(Layout):
    """An item for each array; what `encode` returns stands between `quotes`."""

    media = JSON
    quotes = b"[", b"]"

    @property
    def headers(self) -> dict[str, str]:
        """None: it stands in the items."""
        return {}

    def begin(self) -> bytes:
        """Return what stands before the first item."""
        return orjson.dumps({"object": "list", "model": self._model})[:-1] + b',"data":['

    def open(self, part: Part) -> bytes:
        """Return an item up to its array."""
        layer = {} if part.layer is None else {"layer": part.layer}
        item = orjson.dumps({"object": "embedding", "index": part.index, **layer})
        comma = b"" if part is self.parts[0] else b","
        return comma + item[:-1] + b',"embedding":' + self.quotes[0]

    def close(self, part: Part) -> bytes:
        """Return an item from its array on."""
        rest = {
            "shape": part.shape,
            "frame_rate": part.frame_rate_hz,
            "duration": part.duration,
            "windows": part.windows,
        }
        times = b""
        if self._options.times and part.frame_rate_hz is not None:
            times = b',"times":' + floats(np.arange(part.shape[0]) / part.frame_rate_hz)
        return self.quotes[1] + b"," + orjson.dumps(rest)[1:-1] + times + b"}"

    def end(self) -> bytes:
        """Return what stands behind the last item."""
        seconds = sum({part.index: part.duration for part in self.parts}.values())
        return b"]," + orjson.dumps({"usage": {"audio_seconds": seconds}})[1:]


class JsonFloats(_Json):
    """Arrays as lists."""

    length = None
    _begun = False

    def open(self, part: Part) -> bytes:
        """Return an item up to its array."""
        self._begun = False
        return super().open(part)

    def encode(self, piece: Array) -> bytes:
        """Return the rows of `piece`."""
        comma = b"," if self._begun else b""
        self._begun = True
        return comma + _inner(piece.astype(np.float32, copy=False))


class JsonBase64(_Json):
    """Arrays as text."""

    quotes = b'"', b'"'
    _rest = b""  # of what was encoded: three bytes are four characters

    @property
    def length(self) -> int:
        """Bytes of the whole answer."""
        around = sum(len(self.open(part)) + len(self.close(part)) for part in self.parts)
        values = sum(-(-part.size(self._options.dtype) // 3) * 4 for part in self.parts)
        return len(self.begin()) + around + values + len(self.end())

    def encode(self, piece: Array) -> bytes:
        """Return what is complete."""
        data = self._rest + piece.tobytes()
        whole = len(data) // 3 * 3
        self._rest = data[whole:]
        return base64.b64encode(memoryview(data)[:whole])

    def close(self, part: Part) -> bytes:
        """Return an item from the end of its array on."""
        rest, self._rest = base64.b64encode(self._rest), b""
        return rest + super().close(part)


def layout(media: str, options: EncodeOptions, model: str, parts: Sequence[Part]) -> Layout:
    """Return how `parts` stand in an answer of type `media`."""
    if media == NPY:
        return Npy(parts, options, model)
    if media == SAFETENSORS:
        return Safetensors(parts, options, model)
    return (JsonBase64 if options.encoding_format == "base64" else JsonFloats)(parts, options, model)


def floats(values: Array) -> bytes:
    """Return C-contiguous `values` as JSON, made piece by piece."""
    rows = max(1, PIECE_VALUES // max(1, values[:1].size))
    return b"[" + b",".join(_inner(values[start : start + rows]) for start in range(0, len(values), rows)) + b"]"


def _inner(values: Array) -> bytes:
    return orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]
