from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks.engines import latency
from benchmarks.engines.eager import Eager
from benchmarks.records.speed import Latency


def test_every_cell_has_figures(latency_record: Latency) -> None:
    assert [(cell.seconds, cell.batch) for cell in latency_record.cells] == [(0.5, 1), (1.0, 1), (0.5, 2), (1.0, 2)]
    for cell in latency_record.cells:
        figures = [cell.sonant.median_ms, cell.sonant.p95_ms, cell.transformers.median_ms, cell.transformers.p95_ms]
        assert all(math.isfinite(figure) and figure > 0 for figure in figures)
        assert cell.sonant.median_ms <= cell.sonant.p95_ms
        assert 0 < cell.ratio.low <= cell.ratio.value <= cell.ratio.high < math.inf
        assert cell.pairs >= 3


def test_both_sides_compute_the_same(latency_record: Latency) -> None:
    assert max(cell.error for cell in latency_record.cells) <= 1e-5


def test_the_mean_lies_among_the_cells(latency_record: Latency) -> None:
    ratios = [cell.ratio.value for cell in latency_record.cells]
    assert min(ratios) <= latency_record.geometric_mean.value <= max(ratios)


def test_the_run_is_described(latency_record: Latency) -> None:
    run = latency_record.run
    assert (run.model, run.threads, run.seed) == ("tiny", 1, 0)
    assert run.parameters > 0
    assert latency_record.attention == "sdpa"


@pytest.mark.usefixtures("results")
def test_wrong_embeddings_are_not_timed(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = Eager.__call__
    monkeypatch.setattr(Eager, "__call__", lambda self, clips: [np.flip(row, 0) for row in right(self, clips)])
    assert latency.main(["--quick", "--cache", str(cache)]) == 1
    assert "the embeddings differ" in capsys.readouterr().err


@pytest.mark.usefixtures("results")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--lengths", "0.001"], "the engine takes"),
        (["--batches", "2", "--batch-seconds", "0.1"], "nothing to measure"),
    ],
)
def test_what_cannot_be_measured_is_said(
    options: list[str], message: str, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert latency.main(["--quick", "--cache", str(cache), *options]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("options", [["--batches", "0"], ["--lengths", "one"], ["--threads", "-1"]])
def test_wrong_usage(options: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        latency.main(options)
