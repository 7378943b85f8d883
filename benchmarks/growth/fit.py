"""The power by which one thing grows with another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.records.growth import GrowthLine, GrowthPoint
from benchmarks.stats import Estimate

# Of Student's distribution, for intervals of 95 %: by the points beyond the two that make a line.
QUANTILES = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13)


def exponent(x: Sequence[float], y: Sequence[float]) -> Estimate | None:
    """Return p of y ~ x^p, the slope of a line through the logarithms, with the interval that its residuals give it.

    What has no logarithm is left out; None where fewer than three points are left.
    """
    points = np.array([(a, b) for a, b in zip(x, y, strict=True) if a > 0 and np.isfinite(b) and b > 0])
    free = len(points) - 2
    if free < 1:
        return None
    logs = np.log(points)
    centred = logs - logs.mean(axis=0)
    spread = float(centred[:, 0] @ centred[:, 0])
    if spread == 0:
        return None
    slope = float(centred[:, 0] @ centred[:, 1]) / spread
    rest = centred[:, 1] - slope * centred[:, 0]
    half = QUANTILES[min(free, len(QUANTILES)) - 1] * float(np.sqrt(rest @ rest / free / spread))
    return Estimate(value=slope, low=slope - half, high=slope + half)


def fitted(name: str, base: float, points: Sequence[GrowthPoint]) -> GrowthLine:
    """Fit the powers by which time and memory grow."""
    xs = [point.x for point in points]
    return GrowthLine(
        name=name,
        base_mib=base,
        points=tuple(points),
        time=exponent(xs, [point.median_ms for point in points]),
        memory=exponent(xs, [point.memory_mib - base for point in points]),
    )
