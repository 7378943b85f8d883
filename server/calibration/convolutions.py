"""How ONNX Runtime best finds its convolutions on a GPU: measured on clips of lengths that it has not met before.

Every new shape is searched for once, and served clips are seldom as long as another: what the search takes counts.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

from engines.errors import EngineError
from engines.runtimes import ConvSearch
from server.calibration.decide import SENTENCE
from server.calibration.subject import Subject
from server.calibration.timing import Timer

FIRST: ConvSearch = "heuristic"  # what is used where nothing was measured
OTHERS: tuple[ConvSearch, ...] = ("default", "exhaustive")
# Another than the first is to be so much faster.
GAIN = 0.05
# Seconds from one length to the next: a frame of any model is shorter.
STEP = 0.1


def fastest(
    open_subject: Callable[[ConvSearch], Subject], seconds: float, timer: Timer, progress: Callable[[str], None]
) -> ConvSearch:
    """Return the search with which new lengths take the least; `open_subject` loads the engine with one.

    About `seconds` are taken. Each is loaded alone, for there may be no memory for two; one that fails is left out.
    """
    found: dict[ConvSearch, float] = {}
    for search in (FIRST, *OTHERS):
        progress(f"Convolutions: {search}")
        try:
            found[search] = _median(open_subject(search), seconds / (1 + len(OTHERS)), timer)
        except EngineError:
            continue
    # Where the first fails too, so does the engine, and the measurement says why.
    limit = (1 - GAIN) * found.get(FIRST, 0.0)
    best = min(found, key=lambda search: found[search], default=FIRST)
    return best if found.get(best, 0.0) < limit else FIRST


def _median(subject: Subject, seconds: float, timer: Timer) -> float:
    """Return what a clip of a new length takes, in seconds, and close `subject`."""
    begin = min(max(SENTENCE, subject.shortest), subject.longest)
    room = max(1, int((subject.longest - begin) / STEP))  # beyond, the lengths come again
    lengths = (begin + STEP * (index % room) for index in itertools.count())
    try:
        return float(np.median(timer.interleave([lambda: subject.batch(next(lengths), 1)], seconds, 1)))
    finally:
        subject.close()
