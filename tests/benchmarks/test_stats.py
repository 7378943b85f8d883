from __future__ import annotations

import numpy as np
import pytest

from benchmarks.stats import Estimate, PairedRatio, Tail, Timing, geometric_mean, mean_of


def test_a_timing_is_the_median_and_the_95th_percentile_in_milliseconds() -> None:
    timing = Timing.of(np.arange(101) / 1000.0)
    assert timing.median_ms == pytest.approx(50.0)
    assert timing.p95_ms == pytest.approx(95.0)


def test_a_drift_that_both_sides_share_cancels() -> None:
    drift = np.linspace(1.0, 3.0, 20)
    assert figures(PairedRatio(1.5 * drift, drift, (0,)).estimate) == pytest.approx([1.5] * 3)


def test_the_interval_holds_the_median_and_is_the_same_for_one_seed() -> None:
    noise = np.random.default_rng(5).normal(2.0, 0.1, 40)
    estimate = PairedRatio(noise, np.ones(40), (3, 1)).estimate
    assert estimate.low < estimate.value < estimate.high
    assert estimate == PairedRatio(noise, np.ones(40), (3, 1)).estimate


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(1)
    estimates = [PairedRatio(generator.normal(1.0, 0.05, 25), np.ones(25), (n,)).estimate for n in range(100)]
    assert sum(estimate.low <= 1.0 <= estimate.high for estimate in estimates) >= 88


def test_the_geometric_mean_of_a_ratio_and_its_inverse_is_one() -> None:
    ones = np.ones(5)
    mean = geometric_mean([PairedRatio(2.0 * ones, ones, (0,)), PairedRatio(0.5 * ones, ones, (0,))])
    assert figures(mean) == pytest.approx([1.0] * 3)


def test_a_tail_is_also_the_99th_percentile() -> None:
    tail = Tail.of(np.arange(101) / 1000.0)
    assert [tail.median_ms, tail.p95_ms, tail.p99_ms] == pytest.approx([50.0, 95.0, 99.0])


def test_a_mean_of_intervals_is_about_as_sure_as_one_of_all_rounds() -> None:
    generator = np.random.default_rng(2)
    ratios = [PairedRatio(generator.normal(2.0, 0.1, 40), np.ones(40), (n,)) for n in range(6)]
    expected, found = geometric_mean(ratios), mean_of([ratio.estimate for ratio in ratios])
    assert found.value == pytest.approx(expected.value)
    assert found.high - found.low == pytest.approx(expected.high - expected.low, rel=0.2)


def figures(estimate: Estimate) -> list[float]:
    return [estimate.low, estimate.value, estimate.high]
