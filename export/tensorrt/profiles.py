"""The batches that a plan is built for: a profile for each bucket of lengths, with as many rows as there is memory for.

One profile over all lengths and rows would be slow: its kernels are chosen for one shape and must work for all others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from engines.manifest import Manifest, Profile
from engines.memory import UNMEASURED
from export.errors import BuildError

BUCKETS = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)  # seconds at which a profile ends: each at most twice the one before
SHARE = 0.25  # of the GPU's memory, as a batch of any runtime may take
# Rows of half a second beyond this gain nothing: the kernels are at the GPU's rate before.
MAX_ROWS = 64


def profiles(
    manifest: Manifest, longest_golden: int, memory: int, buckets: Sequence[float] = BUCKETS, rows: int | None = None
) -> tuple[Profile, ...]:
    """Return the profiles by length, for a GPU with so many bytes of memory.

    `buckets` are the seconds at which a profile ends; what is beyond the longest clip of the engine is cut. `rows` is
    the largest batch, where memory has not to say. The last profile must take the longest golden clip, of so many
    samples, or nothing would prove it: BuildError.
    """
    ends = sorted({min(round(seconds * manifest.sample_rate), manifest.max_samples) for seconds in buckets})
    ends = [end for end in ends if end >= manifest.min_samples]
    if not ends or ends[-1] < longest_golden:
        seconds = math.ceil(100 * longest_golden / manifest.sample_rate) / 100
        raise BuildError(f"--buckets: the last must be {seconds:g} s or more, as long as the longest golden clip")
    return tuple(
        _profile(first, last, rows or _rows(last / manifest.sample_rate, memory))
        for first, last in pairwise((manifest.min_samples - 1, *ends))
    )


def _profile(before: int, last: int, rows: int) -> Profile:
    """Return the profile of the lengths above `before`: for its longest, where most time goes, it is fastest."""
    return Profile(
        min_samples=before + 1,
        opt_samples=last,
        max_samples=last,
        min_rows=1,
        opt_rows=1 << round(math.log2(rows) / 2),  # the geometric mean of one row and all
        max_rows=rows,
    )


def _rows(seconds: float, memory: int) -> int:
    """Return the largest power of two of clips for which there is memory, 64 at most."""
    fit = SHARE * memory / UNMEASURED.of(seconds)
    return min(MAX_ROWS, 1 << int(math.log2(max(fit, 1))))
