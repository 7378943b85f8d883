from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn

from engines.manifest import Output
from export.errors import AuditError
from export.trace import FORBIDDEN, audit, audit_standard, trace

OUTPUTS = (Output(name="embeddings", shape=("batch", "frames")), Output(name="frames", shape=("batch",)))


class Doubled(nn.Module):
    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return waveform * 2, lengths + 1


class FixedBatch(nn.Module):
    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return waveform.sum(0, keepdim=True), lengths + 1


class FixedTime(nn.Module):
    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return waveform.sum(1, keepdim=True).expand(-1, 7), lengths + 1


class Unmasked(nn.Module):
    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        positions = torch.nonzero(waveform)
        return waveform * 2 + positions.sum(), lengths + 1


def test_names_and_dynamic_axes() -> None:
    model = trace(Doubled(), OUTPUTS, 400)
    assert [value.name for value in model.graph.inputs] == ["waveform", "lengths"]
    assert all(not isinstance(axis, int) for axis in model.graph.inputs[0].shape or [1])


def test_outputs_of_a_fixed_size_are_refused() -> None:
    with pytest.raises(AuditError, match="embeddings has the shape"):
        trace(FixedBatch(), OUTPUTS, 400)


def test_a_time_axis_that_is_baked_is_refused() -> None:
    with pytest.raises(AuditError, match="embeddings has the shape"):
        trace(FixedTime(), OUTPUTS, 400)


def test_a_forbidden_operator_is_refused() -> None:
    with pytest.raises(AuditError, match="NonZero"):
        trace(Unmasked(), OUTPUTS, 400)


def test_outputs_that_are_not_those_of_the_contract_are_refused() -> None:
    model = trace(Doubled(), OUTPUTS, 400)
    with pytest.raises(AuditError, match="has the outputs"):
        audit(model, OUTPUTS[::-1])


def test_graphs_hold_nothing_of_the_machine_and_nothing_forbidden(models: Path) -> None:
    for path in sorted(models.glob("*/*.onnx")):
        content = path.read_bytes()
        assert b".py" not in content
        assert str(Path.home()).encode() not in content or Path.home() == Path("/")
        graph = ir.load(path).graph
        assert not {node.op_type for node in graph.all_nodes()} & FORBIDDEN
        assert {value.name for value in graph.inputs} == {"waveform", "lengths"}


@pytest.mark.parametrize(
    ("domain", "dtype", "said"),
    [("com.microsoft", ir.DataType.FLOAT, "com.microsoft.Gelu"), ("", ir.DataType.DOUBLE, "Gelu does not take FP64")],
)
def test_what_not_every_runtime_has_is_refused(domain: str, dtype: ir.DataType, said: str) -> None:
    model = trace(Doubled(), OUTPUTS, 400)
    audit_standard(model)
    node = ir.node("Gelu", [model.graph.inputs[0]], domain=domain)
    node.outputs[0].dtype = dtype
    model.graph.append(node)
    with pytest.raises(AuditError, match=said):
        audit_standard(model)


def test_each_precision_has_its_opset() -> None:
    assert [trace(Doubled(), OUTPUTS, 400, precision).opset_imports[""] for precision in ("fp16", "bf16")] == [20, 22]
