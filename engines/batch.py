"""Clips -> one padded batch -> each clip's own rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engines.errors import OutOfMemoryError
from engines.manifest import Output
from engines.runtimes import Session, pinned

INPUTS = ("waveform", "lengths")  # of every graph that reads clips
Clip = NDArray[np.float32]  # [samples], mono, in [-1, 1], at the engine's sample rate
Row = dict[str, NDArray[np.float32]]  # one clip's outputs, cut to its own frames


def run_batch(
    session: Session, clips: Sequence[Clip], outputs: Sequence[Output], padding: float = 0.0, samples: int = 0
) -> list[Row]:
    """Run `clips` as one padded batch and return each clip's outputs.

    Arrays with time axes are cut to the clip's valid frames; they are views into the batch's array. `padding` is
    what fills the waveform beyond each clip: it is never read, so it may be anything. The batch has at least so many
    `samples`.
    """
    waveform, lengths = pad(clips, padding, samples)
    names = [*(output.name for output in outputs), *sorted({output.lengths for output in outputs if output.lengths})]
    arrays = session.run(waveform, lengths, names)
    rows: list[Row] = [{} for _ in clips]
    for output in outputs:
        for index, row in enumerate(rows):
            array = arrays[output.name][index]
            if output.lengths:
                array = array[_valid(output, int(arrays[output.lengths][index]))]
            row[output.name] = array
    return rows


def pad(clips: Sequence[Clip], padding: float = 0.0, samples: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return `clips` as one waveform [batch, samples], of so many or more, with their lengths [batch].

    Raises OutOfMemoryError.
    """
    lengths = np.array([clip.shape[0] for clip in clips], np.int64)
    try:
        waveform = pinned.memory.empty((len(clips), max(int(lengths.max()), samples)), np.float32)
    except MemoryError as error:
        raise OutOfMemoryError(f"not enough memory for the waveforms of a batch: {error}") from None
    for padded, clip in zip(waveform, clips, strict=True):
        padded[: clip.shape[0]] = clip
        padded[clip.shape[0] :] = padding
    return waveform, lengths


def _valid(output: Output, frames: int) -> tuple[slice, ...]:
    """Return what is valid of one row of `output`: `frames` of each axis that has a name, all of the others."""
    return tuple(slice(frames) if isinstance(axis, str) else slice(None) for axis in output.shape[1:])
