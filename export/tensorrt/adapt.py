"""Operators that torch's exporter writes and TensorRT's parser does not take -> others that compute the same."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
from onnx_ir.convenience import get_const_tensor, replace_nodes_and_values
from onnx_ir.passes.common import RemoveUnusedNodesPass
from onnx_ir.tape import Tape

LAST = "adapt.last"  # the initialiser that names the last axis
INTEGERS = (ir.DataType.INT64, ir.DataType.INT32)


def adapt(model: ir.Model) -> None:
    """Replace what TensorRT's parser does not take and something else stands for; the rest stays as it is.

    A clamp of integers, comparisons of truth values (of which the exporter makes each rounded-down division), and
    pooling over one axis.
    """
    for node in list(model.graph):
        replace = REPLACED.get(node.op_type)
        if node.domain == "" and replace is not None:
            tape = Tape()
            made = replace(model.graph, tape, node)
            if made is not None:
                replace_nodes_and_values(model.graph, node, [node], tape.nodes, node.outputs, [_like(node, made)])
    RemoveUnusedNodesPass()(model)


def _like(node: ir.Node, made: ir.Value) -> ir.Value:
    """Return `made` with the type and shape of what it stands for."""
    made.type, made.shape = node.outputs[0].type, node.outputs[0].shape
    return made


def _clamp(graph: ir.Graph, tape: Tape, node: ir.Node) -> ir.Value | None:
    value, low, high = (*node.inputs, None, None)[:3]
    if value is None or value.dtype not in INTEGERS:
        return None
    for kind, limit in (("Max", low), ("Min", high)):
        if limit is not None:
            value = _typed(tape.op(kind, [value, limit]), node.outputs[0])
    return value


def _compared(graph: ir.Graph, tape: Tape, node: ir.Node) -> ir.Value | None:
    left, right = node.inputs
    if left is None or right is None or left.dtype != ir.DataType.BOOL:
        return None
    constant = get_const_tensor(right)
    if constant is not None and bool(np.all(constant.numpy())) and constant.size == 1:
        return tape.op("Identity", [left])
    return tape.op("Not", [_typed(tape.op("Xor", [left, right]), node.outputs[0])])


def _pooled(graph: ir.Graph, tape: Tape, node: ir.Node) -> ir.Value | None:
    """Pool [batch, features, frames] as an image of one column."""
    value = node.inputs[0]
    if value is None or value.shape is None or len(value.shape) != 3:
        return None
    if LAST not in graph.initializers:
        axis = ir.tensor(np.array([-1]), name=LAST)
        shape, kind = ir.Shape([1]), ir.TensorType(axis.dtype)
        graph.register_initializer(ir.Value(name=LAST, type=kind, shape=shape, const_value=axis))
    last = graph.initializers[LAST]
    others = {"kernel_shape": 1, "strides": 1, "dilations": 1}  # along the column's width
    attributes = {
        name: [*node.attributes.get_ints(name, ()), width] for name, width in others.items() if name in node.attributes
    }
    if "pads" in node.attributes:
        begin, end = node.attributes.get_ints("pads", ())
        attributes["pads"] = [begin, 0, end, 0]
    kept = {
        name: node.attributes.get_int(name, 0) for name in ("ceil_mode", "count_include_pad") if name in node.attributes
    }
    image = _typed(tape.op("Unsqueeze", [value, last]), value, (*value.shape, 1))
    after = node.outputs[0].shape
    pooled = tape.op("AveragePool", [image], {**attributes, **kept})
    return tape.op("Squeeze", [_typed(pooled, value, (*after, 1) if after is not None else None), last])


def _typed(made: ir.Value, like: ir.Value, shape: tuple[int | ir.SymbolicDim, ...] | None = None) -> ir.Value:
    made.type = like.type
    made.shape = ir.Shape(shape) if shape is not None else like.shape
    return made


REPLACED: dict[str, Callable[[ir.Graph, Tape, ir.Node], ir.Value | None]] = {
    "AveragePool": _pooled,
    "Clip": _clamp,
    "Equal": _compared,
}
