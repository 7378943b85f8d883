from __future__ import annotations

import math
from pathlib import Path

import pytest

from benchmarks.engines import layers
from benchmarks.records.speed import Layers


def test_every_graph_has_figures(layers_record: Layers) -> None:
    assert layers_record.num_layers == 2
    assert [cell.layers for cell in layers_record.cells] == [1]
    for timing in (layers_record.front_end, layers_record.full, *(cell.time for cell in layers_record.cells)):
        assert 0 < timing.median_ms <= timing.p95_ms < math.inf
    for cell in layers_record.cells:
        assert math.isfinite(cell.ideal_ms)
        assert cell.ratio.low <= cell.ratio.value <= cell.ratio.high


def test_truncated_graphs_compute_what_the_full_one_does(layers_record: Layers) -> None:
    assert max(cell.error for cell in layers_record.cells) <= 1e-5


@pytest.mark.usefixtures("results")
def test_a_layer_that_the_encoder_lacks(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert layers.main(["--quick", "--cache", str(cache), "--layers", "7"]) == 1
    assert "the encoder has the layers 0 to 1" in capsys.readouterr().err
