from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from onnx_ir.tape import Tape

from engines.errors import EngineTamperedError
from engines.manifest import MANIFEST_NAME
from export.tensorrt.operators import RESTRICTIONS, check, table, unsupported
from sonant.cli import main

ENGINES = Path(__file__).parents[3] / "demo" / "engines"
FP32, FP64, INT64, BOOL = ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.INT64, ir.DataType.BOOL


def model_of(
    operator: str, inputs: list[Any], dtype: ir.DataType | None = FP32, domain: str = "", **attributes: Any
) -> ir.Model:
    """Return a model of one node. An input is a type and its sizes, or an array that is a constant."""
    values, constants = [], []
    for index, given in enumerate(inputs):
        if isinstance(given, np.ndarray):
            tensor = ir.tensor(given, name=f"constant_{index}")
            kind, shape = ir.TensorType(tensor.dtype), ir.Shape(given.shape)
            constants.append(ir.Value(name=tensor.name, type=kind, shape=shape, const_value=tensor))
            values.append(constants[-1])
        else:
            values.append(ir.Value(name=f"input_{index}", type=ir.TensorType(given[0]), shape=ir.Shape(given[1:])))
    tape = Tape()
    made = tape.op(operator, values, attributes, domain=domain)
    made.name = "output"
    made.type = ir.TensorType(dtype) if dtype is not None else None
    graph = ir.Graph(
        [value for value in values if value.const_value is None],
        [made],
        nodes=tape.nodes,
        initializers=constants,
        opset_imports={"": 20, domain: 1 if domain else 20},
    )
    return ir.Model(graph, ir_version=10)


GOOD = [
    ("Add", [(FP32, 2), (FP32, 2)], FP32),
    ("Less", [(INT64, 2), (INT64, 2)], BOOL),  # what it gives is no data of its own
    ("Where", [(BOOL, 2), (FP32, 2), (FP32, 2)], FP32),
    ("Gather", [(FP32, 2), (INT64, 2)], FP32),
    ("Cast", [(BOOL, 2)], INT64),
    ("CumSum", [(FP32, 2, 3), np.array(1)], FP32),
    ("ReduceMean", [(FP32, 2, 3), np.array([1])], FP32),
    ("ReduceMean", [(FP32, 2, 3)], FP32),
    ("Concat", [(INT64, 2), (INT64, 2), (INT64, 2)], INT64),
]
BAD = [
    ("Clip", [(INT64, 2), np.array(0)], INT64, "Clip does not take INT64, only BF16 FP16 FP32"),
    ("Equal", [(BOOL, 2), (BOOL, 2)], BOOL, "Equal does not take BOOL"),
    ("MatMul", [(FP64, 2, 2), (FP64, 2, 2)], FP64, "MatMul does not take FP64"),
    ("Cast", [(FP64, 2)], FP32, "Cast does not take FP64"),
    ("Relu", [(FP32, 2)], None, "Relu does not take a type that the graph does not tell"),
    ("CumSum", [(FP32, 2, 3), (INT64,)], FP32, "CumSum: axis must be a build-time constant"),
    ("CumSum", [(INT64, 2, 3), np.array(1)], INT64, "CumSum does not take INT64"),
    ("ReduceMean", [(FP32, 2, 3), (INT64, 1)], FP32, "ReduceMean: axes must be an initializer"),
    ("AveragePool", [(FP32, 2, 3, 9)], FP32, "AveragePool: 2D or 3D pooling only"),
    ("Unique", [(FP32, 2)], FP32, "Unique is no operator that it takes"),
    ("DequantizeLinear", [(ir.DataType.INT8, 2), (FP32,)], FP32, "DequantizeLinear: x_zero_point must be zero"),
]


@pytest.mark.parametrize(("operator", "inputs", "dtype"), GOOD)
def test_what_is_taken(operator: str, inputs: list[Any], dtype: ir.DataType) -> None:
    attributes: dict[str, Any] = {"axis": 0} if operator == "Concat" else {"to": 7} if operator == "Cast" else {}
    assert unsupported(model_of(operator, inputs, dtype, **attributes)) == []


@pytest.mark.parametrize(("operator", "inputs", "dtype", "problem"), BAD)
def test_what_is_not_taken(operator: str, inputs: list[Any], dtype: ir.DataType | None, problem: str) -> None:
    found = unsupported(model_of(operator, inputs, dtype))
    assert found
    assert found[0].startswith(problem)
    assert found[0].endswith(" (1 node)")


def test_operators_of_others_are_not_taken() -> None:
    model = model_of("MultiHeadAttention", [(FP32, 2, 3, 4)] * 3, domain="com.microsoft")
    assert unsupported(model) == ["com.microsoft.MultiHeadAttention is no operator that it takes (1 node)"]


def test_every_restriction_that_is_checked_stands_in_the_table() -> None:
    assert len(table()) > 190
    assert {name for name in RESTRICTIONS if not table()[name].restriction} == set()


@pytest.fixture
def typed(tmp_path: Path) -> Path:
    """An engine whose fp32 graph is called fp16 too."""
    folder = Path(shutil.copytree(ENGINES / "sew-commands-english", tmp_path / "engine"))
    path = folder / MANIFEST_NAME
    data = json.loads(path.read_text())
    [full] = [graph for graph in data["graphs"] if graph["name"] == "fp32"]
    data["graphs"].append({**full, "name": "fp16", "precision": "fp16"})
    path.write_text(json.dumps(data))
    return folder


def test_the_graphs_of_an_engine(typed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert list(check(typed)) == ["fp16"]
    assert main(["verify", "--tensorrt", str(typed)]) == 1
    said = capsys.readouterr().out
    assert said.startswith("fp16: Clip does not take INT64, only BF16 FP16 FP32 (7 nodes); ")
    assert "AveragePool: 2D or 3D pooling only" in said
    with (typed / "fp32.onnx").open("ab") as file:
        file.write(b"changed")
    with pytest.raises(EngineTamperedError):
        check(typed)
    assert main(["verify", "--tensorrt", str(typed)]) == 1


def test_an_engine_without_such_graphs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "--tensorrt", str(ENGINES / "usm-spoken-words")]) == 1
    assert "has no fp16 or bf16 graph: export it again with --precision" in capsys.readouterr().err
