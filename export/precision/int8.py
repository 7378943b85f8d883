"""int8 for ONNX Runtime on processors: products of eight-bit weights and frames, whose steps are found as they come."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx_ir as ir
from onnx_ir.convenience import replace_nodes_and_values
from onnx_ir.passes.common import RemoveUnusedNodesPass
from onnx_ir.tape import Tape

from engines.digest import sha256
from engines.manifest import Graph
from export import trace
from export.precision import products
from export.precision.form import Form, Source

NAME = "int8"


def write(source: Source) -> Form:
    """Write the graphs that read clips, but not those of a decoder.

    One step serves all that goes into a product, of all rows of a batch: so they are not independent, and a batch has
    one row. Raises ParityError where int8 cannot be near enough.
    """
    encoding = [graph for graph in source.graphs if graph.role == "encode"]
    full = max(encoding, key=lambda graph: graph.layers)

    def attempt(exact: Collection[str]) -> Graph:
        model = ir.load(source.folder / full.file)
        quantise(model, exact)
        trace.save(model, source.folder, NAME)
        return _graph(source, full, NAME)

    source.progress("Writing the graphs in int8")
    graphs = [products.write_within(source, full, [attempt])]
    for part in encoding:
        if part is not full:
            name = part.name.replace(full.name, NAME, 1)
            trace.save_truncated(source.folder, f"{NAME}.onnx", [*part.outputs, *source.exportable.lengths], name)
            graphs.append(_graph(source, part, name))
    return Form(tuple(graphs))


def _graph(source: Source, exact: Graph, name: str) -> Graph:
    """Describe the graph `name`, which computes what `exact` does."""
    file, weights = f"{name}.onnx", f"{NAME}.weights"
    hashes = {each: sha256(source.folder / each) for each in (file, weights)}
    update = {"name": name, "file": file, "sha256": hashes, "precision": "int8", "max_rows": 1, "devices": ("cpu",)}
    return exact.model_copy(update=update)


def quantise(model: ir.Model, exact: Collection[str]) -> None:
    """Compute the products of `model` in eight bits, but for those whose weights are named in `exact`."""
    frames: dict[ir.Value, ir.Node] = {}  # what was made of the frames that several products take
    for node in products.find(model):
        if products.weights_of(node)[0] not in exact:
            _replace(model.graph, node, frames)
    RemoveUnusedNodesPass()(model)


def _replace(graph: ir.Graph, node: ir.Node, frames: dict[ir.Value, ir.Node]) -> None:
    """Put a product of integers in the place of `node`; ONNX Runtime fuses its parts into one operator."""
    given = node.inputs[0]
    if given is None:
        return
    if given not in frames:
        frames[given] = ir.node("DynamicQuantizeLinear", [given], num_outputs=3)
        graph.insert_before(node, frames[given])
    whole, step, zero = frames[given].outputs
    name, weights = products.weights_of(node)
    integers, steps = products.rounded(weights)
    tape = Tape()
    middle = products.add(graph, "int8.zero", np.zeros((), np.int8))
    sums = tape.op("MatMulInteger", [whole, products.add(graph, f"{name}.int8", integers), zero, middle])
    scale = tape.op("Mul", [step, products.add(graph, f"{name}.steps", steps)])
    result = tape.op("Mul", [tape.op("Cast", [sums], {"to": ir.DataType.FLOAT}), scale])
    replace_nodes_and_values(graph, node, [node], tape.nodes, node.outputs, [result])
