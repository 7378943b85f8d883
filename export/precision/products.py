"""The products of a graph that eight bits can do: which there are, how they are rounded, and which must stay exact.

A product is a MatMul with a matrix of weights. Those of the front end are left out: what goes into a logarithm is as
faint in one place as it is loud in another, and a convolution is no MatMul.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from engines.batch import Clip, Row, run_batch
from engines.manifest import Graph, Output
from engines.verify import error
from export import graphs
from export.errors import AuditError, ParityError
from export.parity import LIMITS, cosine
from export.precision.form import Source

# A matrix that is smaller than this takes no time.
LEAST_WEIGHTS = 4096
# Of the audio that was given to calibrate with, so many clips are tried, beside the golden ones.
TRIED = 8
# Not more than this share of the products is kept in fp32: beyond it, what is left is not worth a graph.
EXACT_SHARE = 0.5
PROBE = "probe"  # the name of the graph that also computes what goes into each product; it is deleted

Matrix = NDArray[np.float32]


def find(model: ir.Model) -> list[ir.Node]:
    """Return the products of `model`, in the order of the graph."""
    spectra = _ancestors(node for node in model.graph if node.op_type == "Log")
    return [node for node in model.graph if node not in spectra and _is_product(node)]


def _is_product(node: ir.Node) -> bool:
    if node.op_type != "MatMul" or node.inputs[1] is None or node.inputs[1].const_value is None:
        return False
    weights = node.inputs[1].const_value
    return len(weights.shape) == 2 and weights.size >= LEAST_WEIGHTS


def _ancestors(nodes: Iterator[ir.Node]) -> set[ir.Node]:
    """Return all nodes that something of `nodes` is computed from."""
    found: set[ir.Node] = set()
    left = list(nodes)
    while left:
        producers = {producer for producer in left.pop().predecessors() if producer not in found}
        found |= producers
        left += producers
    return found


def weights_of(node: ir.Node) -> tuple[str, Matrix]:
    """Return the name and the values [in, out] of the weights of a product."""
    value = node.inputs[1]
    if value is None or value.name is None or value.const_value is None:
        raise AuditError(f"{node.name} is no product with a matrix of weights")
    return value.name, value.const_value.numpy()


def rounded(weights: Matrix) -> tuple[NDArray[np.int8], Matrix]:
    """Return weights [in, out] in eight bits, symmetric about zero, and the size of a step of each column [out]."""
    steps = np.abs(weights).max(0) / 127
    steps = np.where(steps > 0, steps, 1).astype(np.float32)
    return np.rint(weights / steps).astype(np.int8), steps


def add(graph: ir.Graph, name: str, array: NDArray[Any]) -> ir.Value:
    """Return the initialiser `name` of `graph`, which holds `array`."""
    if name not in graph.initializers:
        tensor = ir.tensor(array, name=name)
        value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape), const_value=tensor)
        graph.register_initializer(value)
    return graph.initializers[name]


def ranked(source: Source, exact: Graph) -> list[str]:
    """Return the weights of all products of `exact` by name, first those whose product eight bits change most.

    The change is that of the product alone, with what goes into it on the clips, relative to its size.
    """
    model = ir.load(source.folder / exact.file)
    products = find(model)
    changes = dict.fromkeys((weights_of(node)[0] for node in products), 0.0)
    for inputs in _inputs(source, exact, model, products):
        for node, given in zip(products, inputs, strict=True):
            name, weights = weights_of(node)
            changes[name] = max(changes[name], _change(given.reshape(-1, given.shape[-1]), weights))
    return sorted(changes, key=lambda name: -changes[name])


def _inputs(
    source: Source, exact: Graph, model: ir.Model, products: Sequence[ir.Node]
) -> Iterator[list[NDArray[np.generic]]]:
    """Yield, for each clip, what goes into each of `products`."""
    values = [node.inputs[0] for node in products]
    names = [value.name for value in values if value is not None and value.name is not None]
    outputs = list(model.graph.outputs)
    model.graph.outputs.extend(value for value in dict.fromkeys(values) if value is not None and value not in outputs)
    file = source.folder / f"{PROBE}.onnx"
    try:
        ir.save(model, file)
        session = graphs.load(source.folder, exact.model_copy(update={"file": file.name}))
        for clip in tried(source):
            arrays = session.run(clip[None], np.array([clip.size]), list(dict.fromkeys(names)))
            yield [arrays[name] for name in names]
    finally:
        file.unlink(missing_ok=True)
        model.graph.outputs.clear()
        model.graph.outputs.extend(outputs)


def _change(given: NDArray[Any], weights: Matrix) -> float:
    """Return how much of given [rows, in] x weights [in, out] is lost, with one step for all that is given."""
    step = (max(float(given.max()), 0.0) - min(float(given.min()), 0.0)) / 255
    if step == 0:
        return 0.0
    exact = given @ weights
    whole, steps = rounded(weights)
    lost = (np.rint(given / step) * step) @ (whole * steps) - exact
    return float(np.linalg.norm(lost)) / max(float(np.linalg.norm(exact)), float(np.finfo(np.float32).tiny))


def tried(source: Source) -> list[Clip]:
    """Return the clips that a graph in eight bits is tried on."""
    return [*source.clips, *source.audio[:TRIED]]


def write_within(source: Source, exact: Graph, writers: Sequence[Callable[[Collection[str]], Graph]]) -> Graph:
    """Return the first graph that is within the limits of int8: as each of `writers` makes it, all products in int8.

    Else that of the last writer with the fewest products in fp32. A writer is given the names of their weights, those
    first that change most, and overwrites what it wrote before. Raises ParityError where half of them are not enough.
    """
    judge = _Judge(source, exact)
    for write in writers:
        graph = write(())
        if judge.near(graph):
            return graph
    source.progress("Looking for the products that int8 changes most")
    names, write = ranked(source, exact), writers[-1]
    too_few, enough = 0, int(EXACT_SHARE * len(names))
    if not judge.near(write(names[:enough])):
        raise ParityError(f"int8: even with half of the products in fp32, {judge.worst}; leave int8 out of --precision")
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        if judge.near(write(names[:middle])):
            enough = middle
        else:
            too_few = middle
    return write(names[:enough])


class _Judge:
    """Whether graphs stay near to what the graph in fp32 computes of the clips."""

    def __init__(self, source: Source, exact: Graph) -> None:
        self._folder, self._clips = source.folder, tried(source)
        self._outputs = [output for output in source.exportable.outputs if output.name in exact.outputs]
        self._truth = _rows(source.folder, exact, self._clips, self._outputs)
        self.worst = ""

    def near(self, graph: Graph) -> bool:
        """Whether every output of `graph` is within the limits of its precision, on every clip."""
        limit = LIMITS[graph.precision]
        for row, truth in zip(_rows(self._folder, graph, self._clips, self._outputs), self._truth, strict=True):
            for name, array in row.items():
                found, close = error(array, truth[name]), cosine(array, truth[name])
                if not (found <= limit.error and close >= limit.cosine):
                    self.worst = (
                        f"{name} differs by {found:.1e}, with a cosine of {close:.5f} (at least {limit.cosine})"
                    )
                    return False
        return True


def _rows(folder: Path, graph: Graph, clips: Sequence[Clip], outputs: Sequence[Output]) -> list[Row]:
    """Return what `graph` computes of each clip alone."""
    session = graphs.load(folder, graph)
    return [run_batch(session, [clip], outputs)[0] for clip in clips]
