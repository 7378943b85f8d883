"""encode: a clip -> its embeddings or hidden states."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.batch import Row
from engines.manifest import Manifest
from server.errors import OptionError, OptionNotSupportedError
from server.kept import Kept
from server.schemas.options import DType, EncodeOptions
from server.windows import Geometry, Window, average

# How many frames a sum is of, beside it in a row.
COUNT = ".count"
# The largest number of float16: what is beyond becomes it.
LARGEST = float(np.finfo(np.float16).max)

Array = NDArray[np.floating]
Finish = Callable[[Array], Array]


@dataclass(frozen=True)
class Encoding:
    """One array of one clip: [frames, hidden], or [hidden] where it is pooled.

    `layer` is None for the last layer's embeddings; `frame_rate_hz` None where the array has no time axis. The frames
    come in `parts`, one after the other; `finish` makes of any of them what was asked for.
    """

    layer: int | None
    parts: Sequence[Array]
    frame_rate_hz: float | None
    finish: Finish

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array."""
        first = self.parts[0].shape
        return first if len(first) == 1 else (sum(map(len, self.parts)), *first[1:])

    @property
    def array(self) -> Array:
        """The array, as it was asked for."""
        return self.finish(self.parts[0] if len(self.parts) == 1 else np.concatenate(self.parts))

    def pieces(self, values: int) -> Iterator[Array]:
        """Yield views of the parts, of about so many values; each is still to be finished, in any thread."""
        for part in self.parts:
            yield from split(part, values)


def split(array: Array, values: int) -> Iterator[Array]:
    """Yield views of `array` that follow one another, each of about so many values or one row."""
    rows = max(1, values // max(1, array[:1].size))
    for start in range(0, len(array), rows):
        yield array[start : start + rows]


@dataclass(frozen=True)
class Wanted:
    """One output that is encoded to; `samples_per_frame` and `frame_rate_hz` are None without a time axis."""

    name: str
    layer: int | None
    samples_per_frame: int | None
    frame_rate_hz: float | None

    def frames(self, window: Window) -> Array:
        """Return what `window` has of the clip's frames."""
        if self.samples_per_frame is None:
            return window.row[self.name]
        return window.kept(self.name, self.samples_per_frame)


class Encode:
    """The task, for one engine and one set of options."""

    def __init__(self, manifest: Manifest, options: EncodeOptions, answer_bytes: float = 0.0) -> None:
        """Raise OptionError for a layer that the engine does not have, or what else it cannot do.

        A value takes `answer_bytes` in the answer.
        """
        check_layers(manifest, options)
        if options.pooling == "model":
            check_pooler(manifest, options)
        names: dict[str, int | None] = {f"hidden_states.{layer}": layer for layer in options.layers}
        names = names or {"pooled" if options.pooling == "model" else "embeddings": None}
        self._wanted = [wanted(manifest, name, layer) for name, layer in names.items()]
        self._pooling = options.pooling
        self.outputs = tuple(names)
        self.geometry = Geometry.of(manifest, self.outputs, options)
        self.windowed = options.windows == "auto"
        self.kept = Kept(self.outputs, pooled=options.pooling != "none", answer_bytes=answer_bytes)
        # The frames that are wanted, and a vector that the engine pools, are kept as they are: no thread is needed.
        self.reduce = None if options.pooling in ("none", "model") else self._pool
        self.finish = finisher(options.normalize, options.dtype)
        if options.times:
            self._check_times()

    @property
    def streamed(self) -> Wanted | None:
        """The output whose frames can be sent window by window; None where they are pooled, or there are several."""
        [first, *others] = self._wanted
        return first if self._pooling == "none" and first.samples_per_frame and not others else None

    def result(self, windows: Sequence[Window]) -> list[Encoding]:
        """Return an encoding of the reduced `windows` of a clip for each layer asked for, in that order."""
        return [
            Encoding(
                one.layer,
                self._parts(windows, one),
                one.frame_rate_hz if self._pooling == "none" else None,
                self.finish,
            )
            for one in self._wanted
        ]

    def _parts(self, windows: Sequence[Window], one: Wanted) -> Sequence[Array]:
        rows = [window.row[one.name] for window in windows]
        if self._pooling == "none" and one.samples_per_frame:
            return [one.frames(window) for window in windows]
        if self._pooling == "max":
            return [np.max(rows, axis=0)]
        if self._pooling == "first":
            return [rows[0]]
        if self._pooling == "mean":
            counts = [window.row[one.name + COUNT] for window in windows]
            if one.samples_per_frame:
                return [(np.sum(rows, axis=0) / np.sum(counts)).astype(np.float32)]
            rows = [total / count for total, count in zip(rows, counts, strict=True)]
        return [rows[0].astype(np.float32, copy=False) if len(rows) == 1 else average(rows, windows).astype(np.float32)]

    def _pool(self, window: Window) -> Row:
        """Return what is kept of the outputs of a window: the vector of its frames, of a mean their sum in float64."""
        row: dict[str, Any] = {}
        for one in self._wanted:
            frames = one.frames(window)
            if self._pooling == "mean":
                row[one.name] = frames.sum(axis=0, dtype=np.float64)
                row[one.name + COUNT] = np.float64(len(frames))
            else:  # a copy, so that the others can be freed
                row[one.name] = frames.max(axis=0) if self._pooling == "max" else np.array(frames[0])
        return row

    def _check_times(self) -> None:
        if self._pooling != "none":
            raise OptionError("'times' are of frames: leave it out, or ask for pooling=none", "times")
        if any(one.samples_per_frame is None for one in self._wanted):
            raise OptionNotSupportedError("the model's frames have no times: leave it out", "times")


def wanted(manifest: Manifest, name: str, layer: int | None) -> Wanted:
    """Return what is known of an output."""
    samples = manifest.output(name).samples_per_frame
    return Wanted(name, layer, samples, manifest.sample_rate / samples if samples else None)


def check_layers(manifest: Manifest, options: EncodeOptions) -> None:
    """Raise OptionError for a layer that the engine does not have."""
    missing = sorted(set(options.layers) - set(manifest.hidden_states))
    if missing:
        there = ", ".join(str(layer) for layer in manifest.hidden_states) or "none"
        raise OptionError(f"the model has no hidden state {missing[0]}; it has: {there}", "layer")


def check_pooler(manifest: Manifest, options: EncodeOptions) -> None:
    """Raise OptionError unless the engine computes a pooled output and no layer is asked for, which has none."""
    if options.layers:
        raise OptionError(
            "pooling=model is of the last layer's output: leave out 'layer', or pool otherwise", "pooling"
        )
    if "pooled" not in {output.name for output in manifest.outputs}:
        raise OptionNotSupportedError("the model has no pooled output of its own: pool otherwise", "pooling")


def finisher(normalize: bool, dtype: DType) -> Finish:
    """Return what scales each vector of an array, if it is to `normalize`, and rounds the values to `dtype`."""

    def finish(array: Array) -> Array:
        scaled = normalized(array) if normalize else array
        return np.ascontiguousarray(scaled, "<f4") if dtype == "float32" else rounded(scaled)

    return finish


def rounded(array: Array) -> Array:
    """Return `array` as float16, little-endian; values beyond the largest become that."""
    return np.ascontiguousarray(np.clip(array, -LARGEST, LARGEST), "<f2")


def normalized(vectors: Array) -> Array:
    """Scale each vector of the last axis to length 1; a vector of zeros stays as it is."""
    wide = vectors.astype(np.float64)
    norms = np.linalg.norm(wide, axis=-1, keepdims=True)
    return (wide / np.where(norms == 0, 1, norms)).astype(np.float32)
