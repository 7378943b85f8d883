"""Torch module -> ONNX graph with dynamic batch and time axes, and the audit of what came out."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch
from onnx_ir.passes.common import RemoveUnusedNodesPass
from torch import nn

from engines.generation import FRAMES, PARENTS
from engines.manifest import LOGITS, TOKENS, Generation, Output, Precision
from export.errors import AuditError
from export.tensorrt.adapt import adapt
from export.tensorrt.operators import unsupported

CLIPS = (Output(name="waveform", shape=("batch", "samples")), Output(name="lengths", shape=("batch",)))
# By precision: Gelu came with 20 (below it is written as Erf and not fused), convolutions in bf16 with 22.
OPSETS: dict[Precision, int] = {"fp32": 20, "fp16": 20, "bf16": 22}
# Initialisers from this size on go into the weight file that the graphs of one precision share.
EXTERNAL_BYTES = 1024
# Control flow would bake one branch or stop a runtime from planning; the others have no place in a TensorRT engine.
FORBIDDEN = frozenset({"If", "Loop", "Scan", "NonZero", "STFT", "DFT", "MelWeightMatrix", "Unique", "SequenceAt"})


def trace(module: nn.Module, outputs: Sequence[Output], min_samples: int, precision: Precision = "fp32") -> ir.Model:
    """Trace `module`: waveform [batch, samples], lengths [batch] -> `outputs`, in this order.

    Raises AuditError where the graph would not serve every batch size and length.
    """
    # Two rows of unequal lengths, neither of a size that some axis of the model has.
    # Long, though nothing is computed: an axis (of blocks of frames, say) that has size 1 here would keep it for good.
    samples = 3 * min_samples + 1_000_117
    example = (torch.zeros(2, samples), torch.tensor([samples, samples - min_samples // 2 - 91]))
    return _trace(module, example, CLIPS, outputs, precision)


def trace_step(module: nn.Module, generation: Generation, precision: Precision = "fp32") -> ir.Model:
    """Trace one step of a decoder, from tokens, parents, frames, past and cross attention to logits and a new past.

    Raises AuditError where the graph would not serve every number of clips, beams, steps and frames.
    """
    # Sizes that no two axes share, and none of the model's.
    clips, beams, rows, steps, frames = 2, 3, 5, 7, 11
    tokens, parents = torch.zeros(clips, beams, dtype=torch.int64), torch.arange(clips * beams) % rows
    past = [torch.zeros(rows, generation.heads, steps, generation.head_size) for _ in generation.past]
    cross = [torch.zeros(clips, generation.heads, frames, generation.head_size) for _ in generation.cross]
    state = ("rows", generation.heads, "steps", generation.head_size)
    inputs = (
        Output(name=TOKENS, shape=("clips", "beams")),
        Output(name=PARENTS, shape=("rows",)),
        Output(name=FRAMES, shape=("clips",)),
        *(Output(name=name, shape=state) for name in generation.past),
        *cross_outputs(generation),
    )
    outputs = (
        Output(name=LOGITS, shape=("clips", "beams", generation.vocabulary_size)),
        *(Output(name=name, shape=state) for name in generation.present),
    )
    example = (tokens, parents, torch.tensor([frames, frames - 4]), [*past, *cross])
    return _trace(module, example, inputs, outputs, precision)


def cross_outputs(generation: Generation, frames: int | None = None) -> tuple[Output, ...]:
    """Describe what the start graph computes for the decoder's cross attention, of `frames` if every clip has those."""
    shape = ("batch", generation.heads, frames or FRAMES, generation.head_size)
    return tuple(Output(name=name, shape=shape) for name in generation.cross)


def _trace(
    module: nn.Module,
    example: tuple[Any, ...],
    inputs: Sequence[Output],
    outputs: Sequence[Output],
    precision: Precision,
) -> ir.Model:
    """Trace `module` on `example`, whose tensors `inputs` describe in their order."""
    axes = iter(
        {axis: torch.export.Dim.DYNAMIC for axis, size in enumerate(spec.shape) if isinstance(size, str)}
        for spec in inputs
    )
    dynamic = tuple([next(axes) for _ in part] if isinstance(part, list) else next(axes) for part in example)
    # It logs that torchvision, which no encoder needs, is not there.
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside the exporter, which are not ours to mend
        program = torch.onnx.export(
            module.eval(),
            example,
            dynamo=True,
            dynamic_shapes=dynamic,
            input_names=[spec.name for spec in inputs],
            output_names=[spec.name for spec in outputs],
            opset_version=OPSETS[precision],
            verbose=False,
        )
    if program is None:
        raise AuditError("torch.onnx.export returned no program")
    model: ir.Model = program.model
    if precision != "fp32":
        adapt(model)
    _strip(model)
    audit(model, outputs, inputs)
    if precision != "fp32":
        audit_standard(model)
    return model


def audit_standard(model: ir.Model) -> None:
    """Raise AuditError where TensorRT's parser does not take the graph: operators of ONNX Runtime's own, fp64, ..."""
    if problems := unsupported(model):
        raise AuditError(f"TensorRT would not take the graph: {'; '.join(problems)}")


def audit(model: ir.Model, outputs: Sequence[Output], inputs: Sequence[Output] = CLIPS) -> None:
    """Raise AuditError unless the graph has these inputs and outputs, and nothing forbidden or fixed."""
    graph = model.graph
    names, expected = [value.name for value in graph.inputs], [spec.name for spec in inputs]
    if names != expected:
        raise AuditError(f"the graph has the inputs {names}, not {expected}: one of them was baked into it")
    wanted = [output.name for output in outputs]
    if [value.name for value in graph.outputs] != wanted:
        raise AuditError(f"the graph has the outputs {[value.name for value in graph.outputs]}, not {wanted}")
    for node in graph.all_nodes():
        if node.op_type in FORBIDDEN:
            raise AuditError(f"the graph has the operator {node.op_type} ({node.name})")
    for value, spec in zip((*graph.inputs, *graph.outputs), (*inputs, *outputs), strict=True):
        found = [size if isinstance(size, int) else None for size in value.shape or ()]
        if found != [size if isinstance(size, int) else None for size in spec.shape]:
            raise AuditError(
                f"{value.name} has the shape {value.shape}, not {spec.shape}: an axis was fixed, or is not"
            )


def _strip(model: ir.Model) -> None:
    """Remove what the exporter notes about the machine and the source that it ran on."""
    model.metadata_props.clear()
    model.doc_string = None
    model.graph.metadata_props.clear()
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()


def save(model: ir.Model, folder: Path, name: str) -> tuple[str, str]:
    """Write NAME.onnx and NAME.weights into `folder`; return both file names."""
    graph, weights = f"{name}.onnx", f"{name}.weights"
    ir.save(model, folder / graph, external_data=weights, size_threshold_bytes=EXTERNAL_BYTES)
    return graph, weights


def save_truncated(folder: Path, graph: str, outputs: Iterable[str], name: str) -> str:
    """Write NAME.onnx, the part of `graph` that `outputs` need, over the weight file that `graph` reads.

    The weights of nodes that are left out are not read at run time: a runtime maps the parts that it uses.
    """
    model = ir.load(folder / graph)
    wanted = set(outputs)
    kept = [value for value in model.graph.outputs if value.name in wanted]
    model.graph.outputs.clear()
    model.graph.outputs.extend(kept)
    RemoveUnusedNodesPass()(model)
    ir.save(model, folder / f"{name}.onnx")
    return f"{name}.onnx"
