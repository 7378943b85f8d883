"""A graph with operators of ONNX Runtime's own -> the same graph in standard ones, over the same file of weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
from onnx_ir.convenience import replace_nodes_and_values
from onnx_ir.passes.common import RemoveUnusedOpsetsPass
from onnx_ir.tape import Tape

from export.errors import AuditError
from export.precision import products

CONTRIB = "com.microsoft"
# The shapes of arrays whose features are split by heads, and are not: 0 is a size as it was, -1 what is left.
SPLIT, JOINED = "plain.heads", "plain.frames"


def write(folder: Path, graph: str, name: str) -> str:
    """Write NAME.onnx, `graph` in standard operators, over the weight file that `graph` reads; return the file's name.

    Raises AuditError where it has an operator that `export.attention` does not write.
    """
    model = ir.load(folder / graph)
    rewrite(model)
    ir.save(model, folder / f"{name}.onnx")
    return f"{name}.onnx"


def rewrite(model: ir.Model) -> None:
    """Replace the operators of ONNX Runtime's own; AuditError where there is one that is not known."""
    for node in list(model.graph):
        if node.domain == CONTRIB:
            _replace(model.graph, node)
    RemoveUnusedOpsetsPass()(model)


def _replace(graph: ir.Graph, node: ir.Node) -> None:
    """Put standard nodes in the place of `node`, an attention as `export.attention` writes it."""
    heads = node.attributes.get_int("num_heads", 0)
    if node.op_type != "MultiHeadAttention" or len(node.inputs) != 3 or node.attributes.get_float("scale", 0.0) != 1.0:
        raise AuditError(
            f"the graph has {CONTRIB}'s operator {node.op_type} ({node.name}), in a form that is not known"
        )
    tape = Tape()

    def split(value: ir.Value | None, axes: tuple[int, ...]) -> ir.Value:
        """Map [batch, frames, heads x size] to [batch, heads, frames, size], or to another order of `axes`."""
        parts = tape.op("Reshape", [value, products.add(graph, f"{SPLIT}.{heads}", np.array([0, 0, heads, -1]))])
        return tape.op("Transpose", [parts], {"perm": axes})

    query, key, value = node.inputs
    scores = tape.op("MatMul", [split(query, (0, 2, 1, 3)), split(key, (0, 2, 3, 1))])
    context = tape.op("MatMul", [tape.op("Softmax", [scores], {"axis": -1}), split(value, (0, 2, 1, 3))])
    context = tape.op("Transpose", [context], {"perm": (0, 2, 1, 3)})
    joined = tape.op("Reshape", [context, products.add(graph, JOINED, np.array([0, 0, -1]))])
    replace_nodes_and_values(graph, node, [node], tape.nodes, node.outputs, [joined])
