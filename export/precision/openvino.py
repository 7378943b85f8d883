"""The forms of OpenVINO: fp32 and bf16 over the weights of ONNX Runtime's fp32, and int8 with weights of its own.

Only graphs that read clips: a decoder's caches stay with ONNX Runtime.
"""

from __future__ import annotations

import functools
from collections.abc import Collection
from pathlib import Path

import onnx_ir as ir
import torch
from onnx_ir.convenience import replace_nodes_and_values
from onnx_ir.passes.common import RemoveUnusedNodesPass
from onnx_ir.tape import Tape

from engines.digest import sha256
from engines.manifest import Graph, Precision
from engines.runtimes import RuntimeOptions, openvino
from export import trace
from export.precision import plain, products
from export.precision.form import Form, Source
from export.precision.half import in_half
from export.precision.session import load_modules

# So many features of a frame share a step; the more, the faster, and the less exact.
GROUPS = (128, 64, 32)
INT8 = "openvino.int8"


def write_fp32(source: Source) -> Form:
    """Write the graphs in fp32: those of ONNX Runtime in standard operators, over the same weights."""
    return Form(_plain_graphs(source, "fp32"))


def write_bf16(source: Source) -> Form:
    """Write the graphs in bf16: those in fp32, for OpenVINO to compute in bf16 behind the front end.

    Where the processor has no bf16, OpenVINO computes it slowly, but as others would; where it cannot even that, the
    graphs are not verified, and their errors are those of the modules in bf16.
    """
    graphs = _plain_graphs(source, "bf16")
    if _load_bf16(source.folder, graphs[0]).arithmetic == "bf16":
        return Form(graphs, (_load_bf16,))
    unproved = tuple(graph.model_copy(update={"verified": False}) for graph in graphs)
    return Form(unproved, (load_modules(in_half(source.exportable, torch.bfloat16)),))


def _load_bf16(folder: Path, graph: Graph) -> openvino.OpenVinoSession:
    return openvino.compile_graph(folder / graph.file, RuntimeOptions(), "bf16")


def _plain_graphs(source: Source, precision: Precision) -> tuple[Graph, ...]:
    """Write and describe the graphs in standard operators, for `precision`."""
    source.progress(f"Writing the graphs for OpenVINO in {precision}")
    graphs = []
    for exact in _encoding(source):
        file = plain.write(source.folder, exact.file, exact.file.removesuffix(".onnx") + ".plain")
        weights = {name: value for name, value in exact.sha256.items() if name != exact.file}
        name = exact.name.replace("fp32", f"openvino.{precision}", 1)
        hashes = {file: sha256(source.folder / file)} | weights
        graphs.append(_describe(exact, precision, name, file, hashes))
    return tuple(graphs)


def write_int8(source: Source) -> Form:
    """Write the graphs with weights in int8; what is multiplied with them is rounded in groups, as it comes.

    Rows stay independent. Raises ParityError where int8 cannot be near enough.
    """
    source.progress("Writing the graphs for OpenVINO in int8")
    full, *parts = _encoding(source)
    writers = [functools.partial(_write_int8, source, full, group) for group in GROUPS]
    graphs = [products.write_within(source, full, writers)]
    for part in parts:
        name = part.name.replace("fp32", INT8, 1)
        trace.save_truncated(source.folder, f"{INT8}.onnx", [*part.outputs, *source.exportable.lengths], name)
        graphs.append(_int8_graph(source, part, name))
    return Form(tuple(graphs))


def _write_int8(source: Source, full: Graph, group: int, exact: Collection[str]) -> Graph:
    model = ir.load(source.folder / full.file)
    plain.rewrite(model)
    compress(model, exact)
    model.metadata_props[openvino.GROUP] = str(group)
    trace.save(model, source.folder, INT8)
    return _int8_graph(source, full, INT8)


def _int8_graph(source: Source, exact: Graph, name: str) -> Graph:
    hashes = {each: sha256(source.folder / each) for each in (f"{name}.onnx", f"{INT8}.weights")}
    return _describe(exact, "int8", name, f"{name}.onnx", hashes)


def _encoding(source: Source) -> list[Graph]:
    """Return the graphs that read clips, the full one first."""
    return sorted((graph for graph in source.graphs if graph.role == "encode"), key=lambda graph: -graph.layers)


def _describe(exact: Graph, precision: Precision, name: str, file: str, hashes: dict[str, str]) -> Graph:
    """Describe a graph that computes what `exact` does."""
    update = {"runtime": "openvino", "precision": precision, "devices": ("cpu",), "name": name, "file": file}
    return exact.model_copy(update={**update, "sha256": hashes})


def compress(model: ir.Model, exact: Collection[str]) -> None:
    """Keep the weights of the products of `model` in int8, but for those that are named in `exact`."""
    for node in products.find(model):
        name, weights = products.weights_of(node)
        if name in exact:
            continue
        integers, steps = products.rounded(weights)
        tape = Tape()
        parts = [
            products.add(model.graph, f"{name}.{kind}", array) for kind, array in (("int8", integers), ("steps", steps))
        ]
        result = tape.op("MatMul", [node.inputs[0], tape.op("DequantizeLinear", parts, {"axis": 1})])
        replace_nodes_and_values(model.graph, node, [node], tape.nodes, node.outputs, [result])
    RemoveUnusedNodesPass()(model)
