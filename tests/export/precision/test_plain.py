from __future__ import annotations

from pathlib import Path

import onnx
import onnx_ir as ir
import pytest

from engines.verify import error
from export import graphs, parity
from export.errors import AuditError
from export.precision import plain
from tests.export.precision import demo


def test_the_standard_graph_computes_the_same_over_the_same_weights(tmp_path: Path) -> None:
    source = demo.source("hubert-ctc-english", tmp_path)
    before = {path.name for path in tmp_path.iterdir()}
    file = plain.write(tmp_path, "fp32.onnx", "fp32.plain")
    assert {path.name for path in tmp_path.iterdir()} - before == {file} == {"fp32.plain.onnx"}
    model = onnx.load(tmp_path / file, load_external_data=False)
    assert [entry.domain for entry in model.opset_import] == [""]
    onnx.checker.check_model(str(tmp_path / file), full_check=True)

    exact = source.graphs[0]
    standard = exact.model_copy(update={"file": file})
    truth = demo.rows(graphs.load(tmp_path, exact), source, exact)
    for together in (False, True):
        found = demo.rows(graphs.load(tmp_path, standard), source, standard, together=together)
        for row, other in zip(found, truth, strict=True):
            assert max(error(row[name], other[name]) for name in row) <= parity.TOLERANCE


@pytest.mark.parametrize(
    ("operator", "attributes"), [("Other", {}), ("MultiHeadAttention", {"num_heads": 2, "scale": 0.5})]
)
def test_an_operator_that_is_not_known_is_refused(operator: str, attributes: dict[str, float]) -> None:
    values = [ir.Value(name=name) for name in "qkv"]
    node = ir.node(operator, values, attributes, domain=plain.CONTRIB)
    graph = ir.Graph(values, node.outputs, nodes=[node], opset_imports={"": 20, plain.CONTRIB: 1})
    with pytest.raises(AuditError, match=operator):
        plain.rewrite(ir.Model(graph, ir_version=10))
