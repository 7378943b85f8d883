"""The nodes of a graph by what they do, so that their times can be told in a line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from benchmarks.engines.profiling import Node, Pass

Number = TypeVar("Number", int, float)

FRONT_END = "front end"  # whatever runs before the first convolution: what makes features of a waveform
CONVOLUTIONS, OTHER = "convolutions", "other"
# Operators of ONNX and of ONNX Runtime, and how the names begin of those that come in variants.
KINDS: Mapping[str, tuple[str, ...]] = {
    "products": ("MatMul", "FusedMatMul", "Gemm", "FusedGemm", "DynamicQuantizeMatMul"),
    CONVOLUTIONS: ("Conv", "FusedConv", "NhwcFusedConv", "ConvTranspose"),
    "attention": ("MultiHeadAttention", "Softmax"),
    "norms": ("LayerNormalization", "SkipLayerNormalization", "InstanceNormalization", "Reduce", "Sqrt", "Reciprocal"),
    "activations": ("Gelu", "BiasGelu", "FastGelu", "QuickGelu", "Erf", "Relu", "Sigmoid", "Tanh", "Clip"),
    "sums": ("Add", "Sub", "Mul", "Div", "Where", "Pow", "AveragePool"),
    "copies": (
        *("Transpose", "Reorder", "Reshape", "Concat", "Slice", "Pad", "Split", "Gather", "Expand", "Cast"),
        *("Squeeze", "Unsqueeze", "Identity", "Flatten"),
    ),
    "quantization": ("DynamicQuantizeLinear", "QuantizeLinear", "DequantizeLinear"),
}


def kind(operator: str) -> str:
    """Return what an operator does."""
    names = {name: kind for kind, names in KINDS.items() for name in names}
    fit = [name for name in names if operator.startswith(name)]
    return names[max(fit, key=len)] if fit else OTHER


def by_kind(run: Pass, value: Callable[[Node], Number]) -> dict[str, Number]:
    """Return the sum of `value` over the nodes of each kind."""
    total: dict[str, Number] = {}
    kinds = [kind(node.operator) for node in run.nodes]
    first = kinds.index(CONVOLUTIONS) if CONVOLUTIONS in kinds else 0
    for index, (name, node) in enumerate(zip(kinds, run.nodes, strict=True)):
        place = FRONT_END if index < first else name
        total[place] = total[place] + value(node) if place in total else value(node)
    return total
