from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from engines.manifest import Manifest
from engines.verify import proved, read_golden, replay
from export import graphs
from export.precision import int8
from export.precision.form import Form, Source
from tests.export.precision import demo

Written = tuple[Source, Form]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    source = demo.source("hubert-ctc-english", tmp_path_factory.mktemp("int8"), layer=2)
    return source, int8.write(source)


def test_there_is_a_graph_for_each_that_reads_clips(written: Written) -> None:
    source, form = written
    assert [graph.name for graph in form.graphs] == ["int8", "int8.layers2"]
    for graph, exact in zip(form.graphs, source.graphs, strict=True):
        assert (graph.runtime, graph.precision, graph.devices) == ("onnxruntime", "int8", ("cpu",))
        assert (graph.outputs, graph.layers, graph.max_rows) == (exact.outputs, exact.layers, 1)
        assert set(graph.sha256) == {graph.file, "int8.weights"}


def test_it_is_near_to_the_exact_graph_and_smaller(written: Written) -> None:
    source, form = written
    for graph, exact in zip(form.graphs, source.graphs, strict=True):
        truth = demo.rows(graphs.load(source.folder, exact), source, exact)
        demo.assert_near(demo.rows(graphs.load(source.folder, graph), source, graph), truth, graph)
    sizes = {name: (source.folder / name).stat().st_size for name in ("int8.weights", "fp32.weights")}
    assert sizes["int8.weights"] < 0.6 * sizes["fp32.weights"]


def test_the_golden_clips_prove_it_alone(written: Written) -> None:
    source, form = written
    manifest = Manifest.read(source.folder)
    golden = read_golden(source.folder, manifest)
    graph = form.graphs[0].model_copy(update={"errors": dict.fromkeys(manifest.golden.outputs, 1.0)})
    checks = replay(graphs.load(source.folder, graph), source.folder, manifest, graph, golden).checks
    assert proved(checks)
    assert all(check.alone == check.batch > 1e-4 for check in checks)


def test_the_spectrum_stays_as_it_is(tmp_path: Path) -> None:
    form = int8.write(demo.source("ast-sound-events", tmp_path))
    model = onnx.load(tmp_path / form.graphs[0].file, load_external_data=False)
    operators = [node.op_type for node in model.graph.node]
    before, after = operators[: operators.index("Log")], operators[operators.index("Log") :]
    assert before.count("MatMul") == 2  # Fourier's, and the filterbank's
    assert "MatMulInteger" not in before
    assert after.count("MatMulInteger") >= 4 * 6  # layers, each with query, key, value, output and a feed-forward
    assert "MatMul" not in after
