"""A clip that is longer than the engine takes -> windows -> one result: the one place where windowing is defined.

Each window is as long as the engine takes, and begins where the one before it ends. The last is what is left; where
that is shorter than the shortest clip that the engine takes, it reaches back into the window before it. A window's
weight is its number of samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.batch import Clip, Row


@dataclass(frozen=True)
class Window:
    """The outputs of one window, and its length. A clip that the engine takes as it is has one."""

    row: Row
    samples: int


def cut(clip: Clip, shortest: int, longest: int) -> list[Clip]:
    """Return the windows of `clip` for an engine that takes `shortest` to `longest` samples; views, none a copy.

    `clip` has at least `shortest` samples.
    """
    starts = range(0, clip.shape[0], longest)
    windows = [clip[start : start + longest] for start in starts]
    windows[-1] = clip[min(starts[-1], clip.shape[0] - shortest) :]
    return windows


def average(arrays: Sequence[NDArray[np.floating]], windows: Sequence[Window]) -> NDArray[np.float64]:
    """Return the mean of one array for each of `windows`, by their weights, in float64."""
    return np.average(np.asarray(arrays, np.float64), axis=0, weights=[window.samples for window in windows])
