from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from numpy.typing import NDArray

from export.precision.plain import rewrite
from export.tensorrt.adapt import adapt
from export.tensorrt.operators import unsupported
from tests.export.tensorrt.test_operators import BOOL, FP32, INT64, model_of

ENGINES = Path(__file__).parents[3] / "demo" / "engines"


def run(model: ir.Model, inputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    return list(session.run(None, dict(zip(names, inputs, strict=True))))


NUMBERS, TRUTHS = np.array([-3, 0, 2, 9]), np.array([True, False, True, False])
ROW = np.arange(14, dtype=np.float32).reshape(1, 2, 7) % 5
CASES: list[tuple[str, list[Any], Any, dict[str, Any], list[NDArray[Any]], str]] = [
    ("Clip", [(INT64, 4), np.array(0)], INT64, {}, [NUMBERS], "Max"),
    ("Clip", [(INT64, 4), np.array(0), np.array(5)], INT64, {}, [NUMBERS], "Max Min"),
    ("Equal", [(BOOL, 4), np.array(True)], BOOL, {}, [TRUTHS], "Identity"),
    ("Equal", [(BOOL, 4), np.array(False)], BOOL, {}, [TRUTHS], "Xor Not"),
    ("Equal", [(BOOL, 4), (BOOL, 4)], BOOL, {}, [TRUTHS, np.array([True, True, False, False])], "Xor Not"),
    (
        "AveragePool",
        [(FP32, 1, 2, 7)],
        FP32,
        {"kernel_shape": [3], "strides": [2], "pads": [1, 0], "ceil_mode": 1, "count_include_pad": 1},
        [ROW],
        "Unsqueeze AveragePool Squeeze",
    ),
    ("AveragePool", [(FP32, 1, 2, 7)], FP32, {"kernel_shape": [2]}, [ROW], "Unsqueeze AveragePool Squeeze"),
]


@pytest.mark.parametrize(("operator", "inputs", "dtype", "attributes", "arrays", "instead"), CASES)
def test_what_stands_for_it_computes_the_same(
    operator: str, inputs: list[Any], dtype: Any, attributes: dict[str, Any], arrays: list[NDArray[Any]], instead: str
) -> None:
    model = model_of(operator, inputs, dtype, **attributes)
    [before] = run(model, arrays)
    assert unsupported(model)
    adapt(model)
    assert " ".join(node.op_type for node in model.graph) == instead
    assert unsupported(model) == []
    [after] = run(model, arrays)
    assert after.dtype == before.dtype
    assert np.array_equal(after, before)


@pytest.mark.parametrize(
    ("operator", "inputs", "dtype"),
    [("Clip", [(FP32, 4), np.array(0, np.float32)], FP32), ("Equal", [(INT64, 4), (INT64, 4)], BOOL)],
)
def test_what_is_taken_stays(operator: str, inputs: list[Any], dtype: Any) -> None:
    model = model_of(operator, inputs, dtype)
    adapt(model)
    assert [node.op_type for node in model.graph] == [operator]


@pytest.mark.parametrize("name", ["sew-commands-english", "usm-spoken-words"])
def test_an_encoder_computes_the_same(name: str, tmp_path: Path) -> None:
    model = ir.load(ENGINES / name / "fp32.onnx")
    generator = np.random.default_rng(0)
    waveform = generator.standard_normal((3, 24000), np.float32) / 10
    inputs = {"waveform": waveform, "lengths": np.array([24000, 9001, 16007])}
    rewrite(model)
    sessions = []
    for file in ("before.onnx", "after.onnx"):
        ir.save(model, tmp_path / file, external_data=f"{file}.weights")
        sessions.append(onnxruntime.InferenceSession(tmp_path / file, providers=["CPUExecutionProvider"]))
        adapt(model)
    for before, after in zip(*(session.run(None, inputs) for session in sessions), strict=True):
        assert np.array_equal(before, after)
