"""Clips -> one padded batch -> each clip's own rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engines.manifest import Manifest
from engines.runtimes import Session

Clip = NDArray[np.float32]  # [samples], mono, in [-1, 1], at the engine's sample rate
Row = dict[str, NDArray[np.float32]]  # one clip's outputs, cut to its own frames


def run_batch(
    session: Session, manifest: Manifest, clips: Sequence[Clip], outputs: Sequence[str], padding: float = 0.0
) -> list[Row]:
    """Run `clips` as one padded batch and return each clip's outputs.

    Arrays with a time axis are cut to the clip's valid frames; they are views into the batch's array. `padding` is
    what fills the waveform beyond each clip: it is never read, so it may be anything.
    """
    lengths = np.array([clip.shape[0] for clip in clips], np.int64)
    waveform = np.full((len(clips), int(lengths.max())), padding, np.float32)
    for padded, clip in zip(waveform, clips, strict=True):
        padded[: clip.shape[0]] = clip
    specs = {name: manifest.output(name) for name in outputs}
    names = [*outputs, *sorted({spec.lengths for spec in specs.values() if spec.lengths})]
    arrays = session.run(waveform, lengths, names)
    rows: list[Row] = [{} for _ in clips]
    for name, spec in specs.items():
        for index, row in enumerate(rows):
            array = arrays[name][index]
            row[name] = array[: int(arrays[spec.lengths][index])] if spec.lengths else array
    return rows
