"""In which order files are taken: by length, so that those of a batch are of like lengths; and how much is left."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from sonant.runs.inputs import Input

# Where a header does not tell how long a clip is, its bytes say about as much as those of 16-bit samples at 16 kHz.
BYTES_PER_SECOND = 32_000
# A header is read in 0.1 ms, and the disk is what takes long where it takes longer.
THREADS = 4


def by_length(inputs: Iterable[Input]) -> dict[Input, float]:
    """Return the files with about their seconds of audio, the longest first.

    At the end, when nothing comes after them, the short ones keep all of the engine's workers busy; and memory that
    does not suffice shows at once.
    """
    with ThreadPoolExecutor(THREADS, thread_name_prefix="header") as threads:
        found = list(inputs)
        seconds = dict(zip(found, threads.map(seconds_of, found), strict=True))
    return dict(sorted(seconds.items(), key=lambda pair: -pair[1]))


def seconds_of(each: Input) -> float:
    """Return about how long the clip is, whatever the file says of itself; decoding it decides."""
    if each.is_standard_input:  # which can be read once
        return 0.0
    try:
        size = each.path.stat().st_size
    except OSError:
        return 0.0
    return _stated(each, size) or size / BYTES_PER_SECOND


def _stated(each: Input, size: int) -> float:
    try:
        import soundfile

        info = soundfile.info(os.fsencode(each.path))  # a name need not be UTF-8
    except (ImportError, OSError, RuntimeError, TypeError, ValueError):
        # A client has no decoder. libsndfile's errors are RuntimeError; of a name that ends in .raw, it is TypeError.
        return 0.0
    # Of nothing but silence, a FLAC takes some bits a block; a header that says more than that tells a tale.
    return float(info.duration) if 0 < info.frames <= 1000 * size else 0.0
