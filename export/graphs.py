"""Exportable -> the graphs of an engine, each compared with transformers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from engines import runtimes
from engines.batch import Clip, run_batch
from engines.digest import sha256
from engines.generation import start_outputs
from engines.manifest import LOGITS, Graph, Manifest, Output, Role
from engines.runtimes import RuntimeOptions, Session
from engines.verify import Check, bound, proved, read_golden, replay
from export import parity, trace
from export.errors import ParityError
from export.exportable import Decoder, Exportable

PRECISION = "fp32"
Progress = Callable[[str], None]


def count_parameters(exportable: Exportable) -> int:
    """Count the parameters of the encoder and of the decoder."""
    modules = [exportable.module, *([exportable.decoder.step] if exportable.decoder else [])]
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def write(folder: Path, exportable: Exportable, layers: Sequence[int], progress: Progress) -> list[Graph]:
    """Trace `exportable` and write its graphs, with truncated ones after `layers`; their errors are still to come."""
    graphs = _encoder_graphs(folder, exportable, layers, progress)
    return [*graphs, *([_step_graph(folder, exportable.decoder, progress)] if exportable.decoder else [])]


def _encoder_graphs(folder: Path, exportable: Exportable, layers: Sequence[int], progress: Progress) -> list[Graph]:
    """Write the graphs that read clips, the full one first: parts of one trace over one file of weights."""
    outputs = tuple(output.name for output in exportable.outputs)
    lengths = [Output(name=name, shape=("batch",)) for name in exportable.lengths]
    decoder = exportable.decoder
    spec = decoder.generation if decoder else None
    cross = trace.cross_outputs(decoder.generation, decoder.frames) if decoder else ()
    progress("Tracing the encoder")
    model = trace.trace(exportable.module, [*exportable.outputs, *lengths, *cross], exportable.min_samples)
    progress("Writing the graphs")
    file, weights = trace.save(model, folder, PRECISION)
    shared = {weights: sha256(folder / weights)}
    start: list[Graph] = []
    if spec:
        part = trace.save_truncated(folder, file, start_outputs(spec), f"{PRECISION}.start")
        start = [_graph(folder, part, shared, spec.cross, exportable.num_layers, "start")]
        trace.save_truncated(folder, file, [*outputs, *exportable.lengths], PRECISION)
    graphs = [_graph(folder, file, shared, outputs, exportable.num_layers)]
    for layer in layers:
        kept = tuple(name for name in outputs if exportable.layers[name] <= layer)
        part = trace.save_truncated(folder, file, [*kept, *exportable.lengths], f"{PRECISION}.layers{layer}")
        graphs.append(_graph(folder, part, shared, kept, layer))
    return graphs + start


def _step_graph(folder: Path, decoder: Decoder, progress: Progress) -> Graph:
    """Write the graph that advances a decoder by one token."""
    progress("Tracing the decoder")
    file, weights = trace.save(trace.trace_step(decoder.step, decoder.generation), folder, f"{PRECISION}.step")
    return _graph(folder, file, {weights: sha256(folder / weights)}, (LOGITS,), 0, "step")


def _graph(
    folder: Path, file: str, weights: dict[str, str], outputs: tuple[str, ...], layers: int, role: Role = "encode"
) -> Graph:
    return Graph(
        name=file.removesuffix(".onnx"),
        role=role,
        precision=PRECISION,
        runtime="onnxruntime",
        file=file,
        sha256={file: sha256(folder / file)} | weights,
        outputs=outputs,
        layers=layers,
        opset=trace.OPSET,
        errors={},
    )


def check(folder: Path, manifest: Manifest, graph: Graph, exportable: Exportable, clips: Sequence[Clip]) -> list[Check]:
    """Compare every output of `graph` with transformers, then replay the golden clips; ParityError out of bounds.

    The bounds of the checks are those that a host that serves will have.
    """
    session, decoder = load(folder, graph), exportable.decoder
    start: Session | None = None
    if decoder is None or graph.role == "encode":
        rows = run_batch(session, clips, [manifest.output(name) for name in graph.outputs])
        parity.check(rows, exportable.reference, clips)
    else:
        if graph.role == "step":
            start = load(folder, next(each for each in manifest.graphs if each.role == "start"))
        parity.check_text(session, start, decoder, clips)
    checks = replay(session, folder, manifest, graph, read_golden(folder, manifest), start).checks
    measured = graph.model_copy(update={"errors": {check.output: check.error for check in checks}})
    checks = [replace(check, bound=bound(measured, check.output)) for check in checks]
    if not proved(checks):
        worst = max(checks, key=lambda check: check.error / check.bound)
        raise ParityError(
            f"graph {graph.name} does not reproduce the golden clips: {worst.output} differs by {worst.error:.1e} "
            f"(bound {worst.bound:.1e}); nothing was written"
        )
    return checks


def load(folder: Path, graph: Graph) -> Session:
    """Load `graph` as a server of this host would."""
    return runtimes.find(graph.runtime).load(folder, graph, RuntimeOptions())
