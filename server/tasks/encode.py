"""encode: a clip -> its embeddings or hidden states."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.batch import Row
from engines.manifest import Manifest
from server.errors import OptionError
from server.schemas import EncodeOptions, Pooling


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
        """Raise OptionError for a layer that the engine does not have."""
        missing = sorted(set(options.layers) - set(manifest.hidden_states))
        if missing:
            there = ", ".join(str(layer) for layer in manifest.hidden_states) or "none"
            raise OptionError(f"the model has no hidden state {missing[0]}; it has: {there}", "layer")
        self._manifest = manifest
        self._options = options
        self._names: dict[str, int | None] = {f"hidden_states.{layer}": layer for layer in options.layers}
        self._names = self._names or {"embeddings": None}
        self.outputs = tuple(self._names)

    def result(self, row: Row) -> list[Encoding]:
        """Return an encoding for each layer asked for, in that order."""
        return [self._encoding(row[name], name, layer) for name, layer in self._names.items()]

    def _encoding(self, array: NDArray[np.float32], name: str, layer: int | None) -> Encoding:
        samples_per_frame = self._manifest.output(name).samples_per_frame
        pooled = pool(array, self._options.pooling)
        timed = samples_per_frame is not None and pooled.ndim == array.ndim
        return Encoding(
            layer,
            normalized(pooled) if self._options.normalize else pooled,
            self._manifest.sample_rate / samples_per_frame if samples_per_frame is not None and timed else None,
        )


def pool(frames: NDArray[np.float32], pooling: Pooling) -> NDArray[np.float32]:
    """Reduce [frames, hidden] to [hidden], or leave it where `pooling` is none. The mean accumulates in float64."""
    if pooling == "mean":
        return np.asarray(frames.mean(axis=0, dtype=np.float64), np.float32)
    if pooling == "max":
        return np.asarray(frames.max(axis=0))
    return np.asarray(frames[0]) if pooling == "first" else frames


def normalized(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale each vector of the last axis to length 1; a vector of zeros stays as it is."""
    wide = vectors.astype(np.float64)
    norms = np.linalg.norm(wide, axis=-1, keepdims=True)
    return (wide / np.where(norms == 0, 1, norms)).astype(np.float32)
