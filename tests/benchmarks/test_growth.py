from __future__ import annotations

import math
from pathlib import Path

import pytest

from benchmarks import record
from benchmarks.growth import command, served
from benchmarks.growth.fit import exponent, fitted
from benchmarks.load.drive import Sample
from benchmarks.records.growth import WORDS, Growth, GrowthPoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a quick run of all has left its results."""
    path = tmp_path_factory.mktemp("growth")
    assert command.main(["all", "--quick", "--output", str(path / "growth.json")]) == 0
    return path


@pytest.fixture(params=WORDS)
def found(request: pytest.FixtureRequest, folder: Path) -> Growth:
    result = record.read(folder / f"growth-{request.param}.json")
    assert isinstance(result, Growth)
    assert result.axis == request.param
    return result


def test_every_axis_is_measured(found: Growth) -> None:
    sizes = {"lengths": [1, 2, 70], "batches": [1, 2, 3], "models": [1, 2], "clients": [1, 2, 4]}[found.axis]
    assert [point.x for point in found.lines[-1].points] == sizes
    for line in found.lines:
        assert all(point.median_ms > 0 and point.rounds > 0 and not point.refused for point in line.points)
        assert all(20 < point.memory_mib < 2000 for point in line.points)
    header, rows = found.table
    assert {len(row) for row in rows} == {len(header)}


def test_every_line_is_drawn(found: Growth) -> None:
    [chart] = found.charts
    assert chart.name == f"growth-{found.axis}-hubert-ctc-english"
    for panel in chart.panels:
        assert [series.name for series in panel.series] == [line.name for line in found.lines]


def test_the_powers_are_in_the_summary(folder: Path) -> None:
    lengths = record.read(folder / "growth-lengths.json")
    assert isinstance(lengths, Growth)
    alone, over_http = lengths.lines
    assert [point.x for point in alone.points] == [1, 2]  # longer ones are beyond what it takes at once
    assert alone.time is None
    assert over_http.time is not None
    assert f"time {over_http.time.value:.2f} (" in lengths.summary
    models = record.read(folder / "growth-models.json")
    assert isinstance(models, Growth)
    assert "A further hubert-ctc-english takes " in models.summary


def test_the_power_of_a_line() -> None:
    x = [1.0, 2.0, 4.0, 8.0]
    exact = exponent(x, [3 * value**1.5 for value in x])
    assert exact is not None
    assert (exact.value, exact.low, exact.high) == pytest.approx((1.5, 1.5, 1.5))
    rough = exponent(x, [1.0, 2.2, 3.8, 8.3])
    assert rough is not None
    assert rough.low < 1 < rough.high
    # Of three points: what numpy's least squares and Student's quantile for one degree of freedom give.
    three = exponent([1, math.e, math.e**2], [1, math.e**1.2, math.e**1.8])
    assert three is not None
    assert (three.value, three.high - three.value) == pytest.approx((0.9, 12.71 * math.sqrt(0.06 / 2)))
    assert exponent([0, 1, 2], [1, 1, 2]) is None  # 0 has no logarithm, and two points are always on a line
    assert exponent([1, 2, 4], [1, math.nan, 2]) is None


def test_memory_is_fitted_beyond_what_was_there() -> None:
    points = [
        GrowthPoint(x=x, rounds=1, median_ms=7.0, p95_ms=7.0, audio_per_second=1.0, memory_mib=100 + 5 * x)
        for x in (1.0, 2.0, 4.0)
    ]
    line = fitted("a", 100.0, points)
    assert line.memory is not None
    assert line.time is not None
    assert (line.memory.value, line.time.value) == pytest.approx((1.0, 0.0))


def test_refused_requests_do_not_count_as_fast() -> None:
    samples = [
        Sample(0.0, 1.0, 200, 3.0, {}, good=True),
        Sample(0.0, 0.01, 429, 3.0, {}, good=False),
        Sample(1.0, 2.0, 200, 3.0, {}, good=True),
    ]
    point = served.summed(2.0, samples, 50.0)
    assert (point.rounds, point.refused, point.median_ms, point.audio_per_second) == (2, 1, 1000.0, 3.0)
    with pytest.raises(ValueError, match="500"):
        served.summed(2.0, [*samples, Sample(0.0, 1.0, 500, 3.0, {}, good=False)], 50.0)
