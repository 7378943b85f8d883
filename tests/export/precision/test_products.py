from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx_ir as ir
import pytest

from engines.manifest import Graph
from export.errors import ParityError
from export.precision import products
from export.precision.form import Source
from tests.export.precision import demo


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return demo.source("hubert-ctc-english", tmp_path_factory.mktemp("products"))


def test_weights_are_rounded_by_column() -> None:
    weights = np.array([[1.0, 0.0, -0.02], [-0.5, 0.0, 0.011]], np.float32)
    integers, steps = products.rounded(weights)
    assert integers.dtype == np.int8
    assert integers.tolist() == [[127, 0, -127], [-64, 0, 70]]
    assert np.allclose(integers * steps, weights, atol=0.5 * steps.max())
    assert np.allclose(steps, [1 / 127, 1, 0.02 / 127])


def test_the_ranking_begins_with_what_loses_most(source: Source) -> None:
    exact = source.graphs[0]
    before = {path.name for path in source.folder.iterdir()}
    names = products.ranked(source, exact)
    assert {path.name for path in source.folder.iterdir()} == before
    assert set(names) == {products.weights_of(node)[0] for node in products.find(ir.load(source.folder / exact.file))}
    assert len(names) == 4 * 6 + 2  # layers: query, key, value, output and a feed-forward; the features and the head


def test_an_outlier_costs_all_that_shares_its_step() -> None:
    generator = np.random.default_rng(0)
    weights = generator.standard_normal((64, 32)).astype(np.float32)
    even = generator.standard_normal((40, 64)).astype(np.float32)
    uneven = even.copy()
    uneven[0, 0] = 500.0
    share = products._change(even, weights)
    assert 0 < share < 0.02
    weights[0] = 0  # the outlier itself does not matter, the step that it makes large does
    assert products._change(uneven, weights) > 10 * share
    assert products._change(np.zeros_like(even), weights) == 0


@pytest.mark.parametrize("needed", [0, 1, 5, 12])
def test_the_fewest_products_stay_exact(source: Source, needed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    exact, tried = source.graphs[0], []
    ranking = [f"weights {index}" for index in range(25)]
    monkeypatch.setattr(products, "ranked", lambda source, exact: ranking)
    monkeypatch.setattr(products._Judge, "near", lambda self, graph: len(graph.sha256) >= needed)

    def write(names: Collection[str]) -> Graph:
        assert list(names) == ranking[: len(names)]
        tried.append(len(names))
        return exact.model_copy(update={"sha256": dict.fromkeys(names, "0" * 64)})

    graph = products.write_within(source, exact, [write])
    assert len(graph.sha256) == needed == tried[-1]
    assert len(tried) <= 7


def test_a_later_writer_is_only_asked_where_the_first_is_not_near(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = source.graphs[0]
    monkeypatch.setattr(products._Judge, "near", lambda self, graph: graph.name == "near")
    writers = [lambda names, name=name: exact.model_copy(update={"name": name}) for name in ("far", "near", "far")]
    assert products.write_within(source, exact, writers).name == "near"


def test_it_is_refused_where_half_of_them_are_not_enough(source: Source) -> None:
    exact = source.graphs[0]

    def write(names: Collection[str]) -> Graph:  # another model than it should be
        file = source.folder / "far.onnx"
        model = ir.load(source.folder / exact.file)
        bias = next(
            value for name, value in model.graph.initializers.items() if name.endswith("layers.0.layer_norm.bias")
        )
        assert bias.const_value is not None
        bias.const_value = ir.tensor(bias.const_value.numpy() + 3, name=bias.name)
        ir.save(model, file)
        return exact.model_copy(update={"file": file.name, "precision": "int8"})

    with pytest.raises(ParityError, match=r"half of the products.*leave int8 out of --precision"):
        products.write_within(source, exact, [write])
