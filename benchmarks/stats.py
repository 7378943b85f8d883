"""Percentiles, ratios of paired times, and how sure one can be of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

Times = NDArray[np.float64]  # [rounds], seconds
RESAMPLES = 2000  # enough that the ends of a 95 % interval move by less than they are printed with
LEVEL = 95.0  # per cent


class Timing(BaseModel):
    """How long something took, in milliseconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    median_ms: float
    p95_ms: float

    @classmethod
    def of(cls, times: Times) -> Self:
        """Summarise `times`, in seconds."""
        median, p95 = np.percentile(times, [50.0, 95.0]) * 1000.0
        return cls(median_ms=float(median), p95_ms=float(p95))


class Tail(Timing):
    """How long something took, with the slowest of a hundred; with few rounds it is near the slowest of all."""

    p99_ms: float

    @classmethod
    def of(cls, times: Times) -> Self:
        """Summarise `times`, in seconds."""
        median, p95, p99 = np.percentile(times, [50.0, 95.0, 99.0]) * 1000.0
        return cls(median_ms=float(median), p95_ms=float(p95), p99_ms=float(p99))


class Estimate(BaseModel):
    """A figure with its 95 % interval."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, value: float, resampled: NDArray[np.float64]) -> Self:
        """Put the interval of `resampled` [RESAMPLES] around `value`."""
        low, high = np.percentile(resampled, [(100.0 - LEVEL) / 2.0, (100.0 + LEVEL) / 2.0])
        return cls(value=value, low=float(low), high=float(high))

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


class PairedRatio:
    """The median of a / b over the rounds in which both were timed, with a percentile bootstrap over the rounds.

    The rounds are resampled, not the two sides on their own: what slows a machine down slows both times of a round.
    """

    def __init__(self, a: Times, b: Times, seed: Sequence[int]) -> None:
        ratios = a / b
        self.median = float(np.median(ratios))
        drawn = np.random.default_rng(seed).integers(0, ratios.size, (RESAMPLES, ratios.size))
        self.resampled: NDArray[np.float64] = np.median(ratios[drawn], axis=1)

    @property
    def estimate(self) -> Estimate:
        """The median with its interval."""
        return Estimate.of(self.median, self.resampled)


def geometric_mean(ratios: Sequence[PairedRatio]) -> Estimate:
    """Return the geometric mean of independent ratios, with the interval that their own uncertainties give it."""
    value = float(np.exp(np.mean(np.log([ratio.median for ratio in ratios]))))
    return Estimate.of(value, np.exp(np.mean(np.log([ratio.resampled for ratio in ratios]), axis=0)))


def mean_of(estimates: Sequence[Estimate]) -> Estimate:
    """Return the geometric mean of independent ratios, of which no more is known than their intervals.

    In the logarithm, the ends of the intervals are as far from the mean as independent errors take them together.
    """
    value, low, high = np.log([[each.value, each.low, each.high] for each in estimates]).T
    middle, count = value.mean(), len(estimates)
    below, above = (float(np.sqrt(((end - value) ** 2).sum())) / count for end in (low, high))
    return Estimate(value=float(np.exp(middle)), low=float(np.exp(middle - below)), high=float(np.exp(middle + above)))
