from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from engines.batch import run_batch
from engines.runtimes import RuntimeOptions
from engines.runtimes.openvino import GROUP, OpenVinoSession, compile_graph
from engines.verify import error
from export import graphs, parity
from export.precision import openvino, products
from export.precision.form import Form, Source
from tests.export.precision import demo

pytestmark = demo.needs_openvino

Written = tuple[Source, Form]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return demo.source("hubert-ctc-english", tmp_path_factory.mktemp("openvino"), layer=2)


def test_fp32_is_the_same_graph_over_the_same_weights(source: Source) -> None:
    form = openvino.write_fp32(source)
    assert [graph.name for graph in form.graphs] == ["openvino.fp32", "openvino.fp32.layers2"]
    for graph, exact in zip(form.graphs, source.graphs, strict=True):
        assert (graph.runtime, graph.precision, graph.devices) == ("openvino", "fp32", ("cpu",))
        assert graph.sha256["fp32.weights"] == exact.sha256["fp32.weights"]
        assert set(graph.sha256) == {graph.file, "fp32.weights"}
        (load,) = form.loads
        truth = demo.rows(graphs.load(source.folder, exact), source, exact)
        for together in (False, True):
            found = demo.rows(load(source.folder, graph), source, graph, together=together)
            for row, other in zip(found, truth, strict=True):
                assert max(error(row[name], other[name]) for name in row) <= parity.TOLERANCE


def test_bf16_is_measured_in_bf16_or_says_that_it_is_not(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino, "in_half", lambda exportable, dtype: exportable)
    form = openvino.write_bf16(source)
    graph = form.graphs[0]
    assert (graph.name, graph.file, graph.precision) == ("openvino.bf16", "fp32.plain.onnx", "bf16")
    real = openvino._load_bf16(source.folder, graph).arithmetic == "bf16"
    assert (graph.verified, form.loads == (openvino._load_bf16,)) == (real, real)
    if real:
        truth = demo.rows(graphs.load(source.folder, source.graphs[0]), source, source.graphs[0])
        demo.assert_near(demo.rows(form.loads[0](source.folder, graph), source, graph), truth, graph)

    monkeypatch.setattr(OpenVinoSession, "arithmetic", property(lambda self: "f32"))
    unproved = openvino.write_bf16(source)
    assert [each.verified for each in unproved.graphs] == [False, False]
    assert unproved.loads != (openvino._load_bf16,)


def test_int8_has_rows_that_do_not_depend_on_each_other(source: Source) -> None:
    form = openvino.write_int8(source)
    assert [graph.name for graph in form.graphs] == ["openvino.int8", "openvino.int8.layers2"]
    for graph, exact in zip(form.graphs, source.graphs, strict=True):
        assert graph.max_rows is None
        assert set(graph.sha256) == {graph.file, "openvino.int8.weights"}
        session = graphs.load(source.folder, graph)
        alone = demo.rows(session, source, graph)
        demo.assert_near(alone, demo.rows(graphs.load(source.folder, exact), source, exact), graph)
        for row, single in zip(demo.rows(session, source, graph, together=True), alone, strict=True):
            assert max(error(row[name], single[name]) for name in row) <= 2e-2  # a value may round to another step
    model = ir.load(source.folder / form.graphs[0].file)
    assert int(model.metadata_props[GROUP]) in openvino.GROUPS
    assert not products.find(model)  # each was near enough in int8


def test_a_loud_neighbour_leaves_a_faint_row_as_it_is(source: Source) -> None:
    graph = openvino.write_int8(source).graphs[0]
    session = graphs.load(source.folder, graph)
    outputs = [output for output in source.exportable.outputs if output.name == "embeddings"]
    faint, loud = 0.001 * demo.noise(9000), 9 * demo.noise(9000)
    (alone,) = run_batch(session, [faint], outputs)
    beside, _ = run_batch(session, [faint, loud], outputs)
    assert error(beside["embeddings"], alone["embeddings"]) <= 2e-2


def test_products_that_stay_exact_keep_their_weights(tmp_path: Path) -> None:
    source = demo.source("ast-sound-events", tmp_path)
    full = source.graphs[0]
    names = [products.weights_of(node)[0] for node in products.find(ir.load(tmp_path / full.file))]
    graph = openvino._write_int8(source, full, 32, names[:-1])
    model = ir.load(tmp_path / graph.file)
    assert [products.weights_of(node)[0] for node in products.find(model)] == names[:-1]
    assert f"{names[-1]}.int8" in model.graph.initializers
    session = compile_graph(tmp_path / graph.file, RuntimeOptions("cpu", 1), "f32")
    (row,) = run_batch(session, [demo.noise(16000)], list(source.exportable.outputs))
    assert all(np.isfinite(array).all() for array in row.values())
