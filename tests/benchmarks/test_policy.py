from pathlib import Path

import pytest

from benchmarks import markdown, record
from benchmarks.policy import budgets
from benchmarks.policy.budgets import FIFO, SONANT, late, let_run, simulate
from benchmarks.records.policy import Policy

BATCHES = 150  # enough that the means move by less than a tenth


@pytest.mark.parametrize("seed", [0, 1])
def test_a_budget_of_80_seconds_with_64_waiting(seed: int) -> None:
    cell = simulate(SONANT, 80, 64, BATCHES, seed)
    assert cell.clips >= 4
    assert cell.padding <= 0.05
    other = simulate(FIFO, 80, 64, BATCHES, seed)
    assert other.padding > 4 * cell.padding
    assert other.goodput < 0.8 * cell.goodput


@pytest.mark.parametrize(("budget", "waiting"), [(10, 64), (80, 64), (160, 16)])
def test_no_clip_waits_longer_than_its_place_in_the_queue_explains(budget: float, waiting: int) -> None:
    """In batches: each clip that was before it has one at the most, and so has what ran when it came."""
    backlog, _ = let_run(SONANT, budget, waiting, BATCHES, seed=0)
    ran = backlog.engine.ran[:BATCHES]
    waits = list(late(backlog.places, ran))
    assert max(waits) <= 1
    served = {number for batch in ran for number in batch.numbers}
    assert len(waits) == len(served)
    newest = max(served)
    assert set(range(newest - 2 * waiting)) <= served  # nobody was passed over


def test_time_is_what_the_engine_costs() -> None:
    backlog, seconds = let_run(SONANT, 40, 8, BATCHES, seed=0)
    ran = backlog.engine.ran[:BATCHES]
    cost = sum(budgets.FIXED_SECONDS + budgets.SECONDS_PER_SECOND * batch.padded for batch in ran[:-1])
    assert seconds == pytest.approx(cost)  # up to when the last one began


def test_the_command(tmp_path: Path) -> None:
    output = tmp_path / "policy.json"
    options = ["--budgets", "10,80", "--batches", "20", "--waiting", "16"]
    assert budgets.main([*options, "--output", str(output)]) == 0
    found = record.read(output)
    assert isinstance(found, Policy)
    assert [(cell.budget, cell.policy) for cell in found.cells] == [(10, SONANT), (10, FIFO), (80, SONANT), (80, FIFO)]
    assert "| 80 s | first in, first out |" in markdown.section(found)
    [chart] = found.charts
    assert [line.name for line in chart.panels[2].series] == [SONANT, FIFO]
    assert chart.panels[2].series[1].y == (found.cells[1].goodput, found.cells[3].goodput)
