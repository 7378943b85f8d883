from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from engines.batch import run_batch
from engines.engine import Engine
from engines.manifest import Graph
from engines.verify import error
from export import checkpoint as checkpoints
from export import families, graphs
from export.errors import UnsupportedError
from export.exporter import export
from export.parity import LIMITS
from export.precision import choose
from export.precision.half import HALVES, in_half
from export.precision.session import encoder_session
from tests.support import make_checkpoint, noise
from tests.zoo import kinds

CONVOLUTIONS: dict[str, Any] = {"conv_dim": (24, 24), "conv_kernel": (10, 8), "conv_stride": (5, 64)}
CLIPS = [noise(3000, seed=1), noise(9000, seed=2)]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shape: dict[str, Any] = {
        "conv_dim": (24, 24),
        "conv_kernel": (10, 8),
        "conv_stride": (5, 64),
        "num_hidden_layers": 1,
    }
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint"), "HubertForCTC", **shape)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Engine:
    folder = tmp_path_factory.mktemp("models") / "engine"
    return export(str(checkpoint), folder, precisions=("fp16",), layers=(0,), max_seconds=20)


def named(engine: Engine, name: str) -> Graph:
    return next(graph for graph in engine.manifest.graphs if graph.name == name)


def test_the_graphs_of_a_precision_share_one_file_of_weights(engine: Engine) -> None:
    assert [graph.name for graph in engine.manifest.graphs] == ["fp32", "fp32.layers0", "fp16", "fp16.layers0"]
    full, part = named(engine, "fp16"), named(engine, "fp16.layers0")
    assert (full.precision, full.runtime, full.devices) == ("fp16", "onnxruntime", ("cuda",))
    assert (full.opset, full.layers, part.layers, full.verified) == (20, 1, 0, True)
    assert set(full.sha256) & set(part.sha256) == {"fp16.weights"}
    size, single = ((engine.folder / f"{each}.weights").stat().st_size for each in ("fp16", "fp32"))
    assert size < 0.6 * single


def test_errors_are_those_of_real_half_precision(engine: Engine) -> None:
    """ONNX Runtime, which computes in fp32 between half weights, would be nearer than a rounding of every array."""
    graph = named(engine, "fp16")
    assert set(graph.errors) == set(engine.manifest.golden.outputs)
    assert set(graph.cosines) == set(graph.outputs)
    assert 2.0**-13 < max(graph.errors.values()) <= LIMITS["fp16"].error
    assert LIMITS["fp16"].cosine <= min(graph.cosines.values()) < 1


def test_a_typed_graph_is_one_that_every_parser_knows(engine: Engine) -> None:
    model = ir.load(engine.folder / "fp16.onnx")
    assert {node.domain for node in model.graph.all_nodes()} == {""}
    assert model.opset_imports == {"": 20}
    assert {value.dtype for value in model.graph.outputs} == {ir.DataType.FLOAT, ir.DataType.INT64}
    products = [node for node in model.graph.all_nodes() if node.op_type in {"MatMul", "Conv"}]
    types = [value.dtype for node in products for value in node.inputs if value]
    # The first convolution reads the waveform, and a group norm takes its mean away.
    assert types.count(ir.DataType.FLOAT) == 2
    assert types.count(ir.DataType.FLOAT16) == len(types) - 2
    softmax = [node.inputs[0] for node in model.graph.all_nodes() if node.op_type == "Softmax"]
    assert [value.dtype for value in softmax if value] == [ir.DataType.FLOAT]


def test_the_graph_agrees_with_the_module(engine: Engine, checkpoint: Path) -> None:
    graph = named(engine, "fp16")
    typed = in_half(families.build(checkpoints.resolve(str(checkpoint))), HALVES["fp16"])
    session = graphs.load(engine.folder, graph)
    for padding in (0.0, float("nan")):
        found, expected = (run_batch(each, CLIPS, typed.outputs, padding) for each in (session, encoder_session(typed)))
        for row, other in zip(found, expected, strict=True):
            assert all(error(row[name], other[name]) <= LIMITS["fp16"].error for name in row)


def test_an_engine_serves_fp32_unless_it_is_told_otherwise(engine: Engine) -> None:
    again = Engine(engine.folder)
    assert again.form.name == "onnxruntime/fp32"
    assert np.isfinite(again.run([noise(5000)], ["embeddings"])[0]["embeddings"]).all()


@pytest.mark.slow
@pytest.mark.parametrize("family", sorted(kinds()))
def test_every_family_exports_and_loads(tmp_path: Path, family: str) -> None:
    kind = kinds()[family]
    checkpoint = kind.write(tmp_path / "checkpoint", kind.edges.architecture, **kind.edges.config)
    found = export(str(checkpoint), tmp_path / "engine", precisions=("fp16", "bf16"), max_seconds=20).manifest.graphs
    assert {graph.form for graph in found} == {f"onnxruntime/{precision}" for precision in ("fp32", "fp16", "bf16")}
    for graph in found:
        assert (graph.opset, graph.verified) == ((22, False) if graph.precision == "bf16" else (20, True))
    roles = [graph.role for graph in found]
    assert {roles.count(role) for role in roles} == {3}


def test_what_there_is_not_is_refused_by_its_flag(engine: Engine, checkpoint: Path) -> None:
    assert choose(["fp32"], ["onnxruntime"]) == []
    assert choose(["bf16", "fp16"], ["onnxruntime"]) == [("onnxruntime", "fp16"), ("onnxruntime", "bf16")]
    with pytest.raises(UnsupportedError, match="--precision fp8: graphs for onnxruntime can be in fp32, fp16"):
        choose(["fp16", "fp8"], ["onnxruntime"])  # type: ignore[list-item]
    with pytest.raises(UnsupportedError, match="--runtimes tensorrt: there is no graph for it"):
        choose(["fp16"], ["onnxruntime", "tensorrt"])
    with pytest.raises(UnsupportedError, match="--calibrate is for fp16 and int8"):
        export(str(checkpoint), engine.folder.parent / "other", precisions=("bf16",), calibrate=checkpoint)
