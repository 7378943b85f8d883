from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import headlines, record
from benchmarks.recipes import RECIPES
from benchmarks.records.headlines import Headlines


@pytest.fixture(scope="module")
def found(cache: Path) -> Headlines:
    output = cache / "headlines.json"
    assert headlines.main(["--quick", "--cache", str(cache), "--output", str(output)]) == 0
    result = record.read(output)
    assert isinstance(result, Headlines)
    return result


def test_a_pair_is_measured_on_both_sides(found: Headlines) -> None:
    [cell] = found.cells
    assert (cell.slow.seconds, cell.fast.seconds) == (1.0, 0.5)
    assert cell.transformers is not None
    for ratio in (cell.sonant, cell.transformers):
        assert 0 < ratio.low <= ratio.value <= ratio.high
    assert cell.error is not None
    assert cell.error <= 1e-5
    header, [row] = found.table
    assert len(header) == len(row)
    [chart] = found.charts
    assert [bar.label for bar in chart.rows] == ["Sonant", "transformers"]


def test_what_transformers_does_not_have_is_left_out(found: Headlines) -> None:
    [cell] = found.cells
    sides = {name: getattr(cell, name).model_copy(update={"transformers": None}) for name in ("slow", "fast")}
    alone = cell.model_copy(update={**sides, "transformers": None, "error": None})
    only = found.model_copy(update={"cells": (alone,)})
    assert only.table[1][0].count("-") == 3
    assert [bar.label for bar in only.charts[0].rows] == ["Sonant"]


@pytest.mark.parametrize("pair", headlines.PAIRS, ids=lambda pair: pair.what)
def test_pairs_are_of_recipes(pair: headlines.Pair) -> None:
    assert {pair.slow[0], pair.fast[0]} <= set(RECIPES)
    assert pair.slow != pair.fast
