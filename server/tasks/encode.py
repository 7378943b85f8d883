"""encode: a clip -> its embeddings or hidden states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.batch import Row
from engines.manifest import Manifest
from server.errors import OptionError, OptionNotSupportedError
from server.kept import Kept
from server.schemas.options import EncodeOptions, Pooling
from server.windows import Window, average


@dataclass(frozen=True)
class Encoding:
    """One array of one clip: float32 [frames, hidden], or [hidden] where it is pooled.

    `layer` is None for the last layer's embeddings; `frame_rate_hz` None where the array has no time axis.
    """

    layer: int | None
    array: NDArray[np.float32]
    frame_rate_hz: float | None


class Encode:
    """The task, for one engine and one set of options."""

    def __init__(self, manifest: Manifest, options: EncodeOptions) -> None:
        """Raise OptionError for a layer that the engine does not have, or a pooling that it does not compute."""
        missing = sorted(set(options.layers) - set(manifest.hidden_states))
        if missing:
            there = ", ".join(str(layer) for layer in manifest.hidden_states) or "none"
            raise OptionError(f"the model has no hidden state {missing[0]}; it has: {there}", "layer")
        self._manifest = manifest
        self._options = options
        self._names: dict[str, int | None] = {f"hidden_states.{layer}": layer for layer in options.layers}
        if options.pooling == "model":
            check_pooler(manifest, options)
            self._names = {"pooled": None}
        self._names = self._names or {"embeddings": None}
        self.outputs = tuple(self._names)
        # The frames of windows that do not see each other are not those of the clip.
        self.windowed = options.windows == "auto" and options.pooling != "none"

    def kept(self, answer_bytes: float) -> Kept:
        """Return what `reduce` leaves, where a value takes so many bytes in the answer."""
        return Kept(self.outputs, pooled=self._options.pooling != "none", answer_bytes=answer_bytes)

    def reduce(self, row: Row) -> Row:
        """Return what is kept of the outputs of a clip or of a window of it."""
        return {name: pool(row[name], self._options.pooling) for name in self._names}

    def result(self, windows: Sequence[Window]) -> list[Encoding]:
        """Return an encoding of the reduced `windows` of a clip for each layer asked for, in that order."""
        return [self._encoding(windows, name, layer) for name, layer in self._names.items()]

    def _encoding(self, windows: Sequence[Window], name: str, layer: int | None) -> Encoding:
        samples_per_frame = self._manifest.output(name).samples_per_frame if self._options.pooling == "none" else None
        arrays = [window.row[name] for window in windows]
        array = arrays[0] if len(arrays) == 1 else join(arrays, windows, self._options.pooling)
        return Encoding(
            layer,
            normalized(array) if self._options.normalize else array,
            None if samples_per_frame is None else self._manifest.sample_rate / samples_per_frame,
        )


def check_pooler(manifest: Manifest, options: EncodeOptions) -> None:
    """Raise OptionError unless the engine computes a pooled output and no layer is asked for, which has none."""
    if options.layers:
        raise OptionError(
            "pooling=model is of the last layer's output: leave out 'layer', or pool otherwise", "pooling"
        )
    if "pooled" not in {output.name for output in manifest.outputs}:
        raise OptionNotSupportedError("the model has no pooled output of its own: pool otherwise", "pooling")


def pool(frames: NDArray[np.float32], pooling: Pooling) -> NDArray[np.float32]:
    """Reduce [frames, hidden] to [hidden], or leave it where `pooling` is none. The mean accumulates in float64."""
    if pooling == "mean":
        return np.asarray(frames.mean(axis=0, dtype=np.float64), np.float32)
    if pooling == "max":
        return np.asarray(frames.max(axis=0))
    return np.array(frames[0]) if pooling == "first" else frames  # a copy, so that the others can be freed


def join(vectors: Sequence[NDArray[np.float32]], windows: Sequence[Window], pooling: Pooling) -> NDArray[np.float32]:
    """Return the vector [hidden] of a clip from those of its windows: their average, unless `pooling` picks values."""
    if pooling == "max":
        return np.asarray(np.max(vectors, axis=0))
    return vectors[0] if pooling == "first" else average(vectors, windows).astype(np.float32)


def normalized(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale each vector of the last axis to length 1; a vector of zeros stays as it is."""
    wide = vectors.astype(np.float64)
    norms = np.linalg.norm(wide, axis=-1, keepdims=True)
    return (wide / np.where(norms == 0, 1, norms)).astype(np.float32)
