"""How many operations a graph computes: two for each multiplication and addition of its products and convolutions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.engines.kinds import by_kind
from benchmarks.engines.profiling import Node, profiled
from engines.batch import Clip, run_batch
from engines.manifest import Graph, Output

PER_STEP = 2  # a multiplication and an addition


def count(folder: Path, graph: Graph, output: Output, clip: Clip) -> dict[str, int]:
    """Return the operations of `graph` on one clip by kind of node: it is run once, and the shapes are those it met.

    `graph` is for ONNX Runtime, in fp32. Raises ValueError where it has products that are not known here.
    """
    with profiled(folder, graph, threads=0, optimized=False) as found:
        run_batch(found.session, [clip], [output])
        [run] = found.passes()
    return {kind: operations for kind, operations in by_kind(run, of).items() if operations}


def of(node: Node) -> int:
    """Return the operations of one node: 0 for what is no product; ValueError for products that are not known here."""
    if node.operator in UNKNOWN:
        raise ValueError(f"nobody has said how to count the operations of {node.operator} ({node.name})")
    counted = COUNTED.get(node.operator)
    return PER_STEP * counted(node) if counted else 0


def _product(node: Node) -> int:
    """[..., m, k] x [..., k, n]; a fused one may read either of them transposed."""
    left, result = node.inputs[0], node.outputs[0]
    if len(left) == 1:
        return math.prod(result) * left[0]
    shared = left[-1] if len(result) < 2 or left[-2] == result[-2] else left[-2]
    return math.prod(result) * shared


def _convolution(node: Node) -> int:
    """Weights [out, in / groups, *kernel]."""
    return math.prod(node.outputs[0]) * math.prod(node.inputs[1][1:])


def _transposed_convolution(node: Node) -> int:
    """Weights [in, out / groups, *kernel]."""
    return math.prod(node.inputs[0]) * math.prod(node.inputs[1][1:])


def _attention(node: Node) -> int:
    """Query [batch, frames, width], key [batch, keys, width] and value [batch, keys, width of its own]."""
    (batch, frames, width), (_, keys, _), value = node.inputs[:3]
    return batch * frames * keys * (width + value[2])


COUNTED: Mapping[str, Callable[[Node], int]] = {
    "MatMul": _product,
    "FusedMatMul": _product,
    "Gemm": _product,
    "Conv": _convolution,
    "ConvTranspose": _transposed_convolution,
    "MultiHeadAttention": _attention,
}
UNKNOWN = {"Einsum", "Attention", "GroupQueryAttention", "LSTM", "GRU", "RNN", "DeformConv"}
