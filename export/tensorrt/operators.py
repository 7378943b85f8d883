"""What of a graph TensorRT's parser would not take: operators, types and restrictions, by its own table.

The table (operators.csv beside this file) speaks of the type of an operator's data, and not of what else it reads: the
indices of Gather, the axes of ReduceMean. That a graph is within it does not mean that TensorRT can build it; that it
is not means that TensorRT cannot.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import onnx.defs
import onnx_ir as ir

from engines.manifest import Manifest
from engines.verify import check_file

BUILT = ("fp16", "bf16")  # the precisions of graphs that plans are built from
TABLE = Path(__file__).with_name("operators.csv")
NAMES = {
    ir.DataType.FLOAT: "FP32",
    ir.DataType.FLOAT16: "FP16",
    ir.DataType.BFLOAT16: "BF16",
    ir.DataType.DOUBLE: "FP64",
}
# The type parameters that stand for an operator's data, where they are not that of its first input.
DATA = {"Cast": ("T1", "T2"), "ConstantOfShape": ("T2",), "OneHot": ("T3",), "Where": ("T",)}


@dataclass(frozen=True)
class Operator:
    """A row of the table."""

    supported: bool
    types: frozenset[str]
    restriction: str


@cache
def table() -> dict[str, Operator]:
    """Return the table by the names of the operators."""
    with TABLE.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(line for line in file if not line.startswith("#"))
        return {
            row["operator"]: Operator(row["supported"] == "Y", frozenset(row["types"].split()), row["restriction"])
            for row in rows
        }


def unsupported(model: ir.Model) -> list[str]:
    """Return what TensorRT's parser does not take of a graph, each with how many nodes it applies to; none: all is."""
    opset = model.opset_imports.get("", 0)
    found = Counter(problem for node in model.graph.all_nodes() for problem in dict.fromkeys(_problems(node, opset)))
    return [f"{problem} ({count} {'node' if count == 1 else 'nodes'})" for problem, count in found.items()]


def check(folder: Path) -> dict[str, list[str]]:
    """Return what TensorRT's parser does not take of each graph of the engine in `folder` that plans are built from.

    By the names of the graphs. Raises EngineError.
    """
    graphs = [graph for graph in Manifest.read(folder).graphs if graph.runtime == "onnxruntime"]
    found = {}
    for graph in (graph for graph in graphs if graph.role == "encode" and graph.precision in BUILT):
        for file, expected in graph.sha256.items():
            check_file(folder / file, expected)
        found[graph.name] = unsupported(ir.load(folder / graph.file))
    return found


def _problems(node: ir.Node, opset: int) -> Iterator[str]:
    row = table().get(node.op_type) if node.domain in ("", "ai.onnx") else None
    if row is None or not row.supported:
        yield f"{node.domain + '.' if node.domain else ''}{node.op_type} is no operator that it takes"
        return
    for value in _data(node, opset):
        kind = _name(value)
        if kind not in row.types:
            yield f"{node.op_type} does not take {kind}, only {' '.join(sorted(row.types))}"
    holds = RESTRICTIONS.get(node.op_type)
    if row.restriction and not (holds and holds(node)):
        yield f"{node.op_type}: {row.restriction}"


def _data(node: ir.Node, opset: int) -> dict[ir.Value, None]:
    """Return the inputs and outputs whose type the table speaks of, each once."""
    schema = onnx.defs.get_schema(node.op_type, opset, "")
    first = (schema.inputs or schema.outputs)[0].type_str
    wanted = DATA.get(node.op_type, (first,))
    inputs = zip(_parameters(schema.inputs, len(node.inputs)), node.inputs, strict=False)
    outputs = zip(_parameters(schema.outputs, len(node.outputs)), node.outputs, strict=False)
    return dict.fromkeys(value for name, value in (*inputs, *outputs) if name in wanted and value is not None)


def _parameters(formal: Sequence[onnx.defs.OpSchema.FormalParameter], count: int) -> list[str]:
    """Return the type parameter of each of `count` inputs or outputs; the last formal one may stand for several."""
    names = [parameter.type_str for parameter in formal]
    return names + names[-1:] * (count - len(names))


def _name(value: ir.Value) -> str:
    return "a type that the graph does not tell" if value.dtype is None else NAMES.get(value.dtype, value.dtype.name)


def _constant(place: int) -> Callable[[ir.Node], bool]:
    """Return whether the input at `place` is known when the graph is built, or is not there."""

    def holds(node: ir.Node) -> bool:
        value = node.inputs[place] if place < len(node.inputs) else None
        return value is None or ir.convenience.get_const_tensor(value) is not None

    return holds


def _rank(node: ir.Node) -> int | None:
    value = node.inputs[0]
    return len(value.shape) if value is not None and value.shape is not None else None


def _pools_an_image(node: ir.Node) -> bool:
    dilations = node.attributes.get_ints("dilations", ())
    return _rank(node) in (4, 5) and set(dilations) <= {1} and len(node.outputs) == 1


def _has_one_output(node: ir.Node) -> bool:
    return not any(output.uses() or output.is_graph_output() for output in node.outputs[1:])


def _overwrites(node: ir.Node) -> bool:
    return node.attributes.get_string("reduction", "none") == "none"


# What is checked of the restrictions, of operators that an encoder or a decoder has; of others they count as not met.
RESTRICTIONS: dict[str, Callable[[ir.Node], bool]] = {
    "AveragePool": _pools_an_image,
    "CumSum": _constant(1),
    "LayerNormalization": _has_one_output,
    "MaxPool": _pools_an_image,
    "OneHot": _constant(1),
    "ScatterND": _overwrites,
    "Squeeze": _constant(1),
    "Unsqueeze": _constant(1),
    **{name: _constant(1) for name in table() if name.startswith("Reduce")},
}
