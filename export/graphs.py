"""Exportable -> the graphs of an engine, each compared with transformers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from engines import runtimes
from engines.batch import Clip, run_batch
from engines.digest import sha256
from engines.generation import start_outputs
from engines.manifest import LOGITS, Graph, Manifest, Output, Precision, Role
from engines.runtimes import RuntimeOptions, Session
from engines.verify import Check, bound, proved, read_golden, replay
from export import parity, trace
from export.errors import ParityError
from export.exportable import Decoder, Exportable

Progress = Callable[[str], None]
Load = Callable[[Path, Graph], Session]


def count_parameters(exportable: Exportable) -> int:
    """Count the parameters of the encoder and of the decoder."""
    modules = [exportable.module, *([exportable.decoder.step] if exportable.decoder else [])]
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def write(
    folder: Path, exportable: Exportable, layers: Sequence[int], progress: Progress, precision: Precision = "fp32"
) -> list[Graph]:
    """Trace `exportable` and write its graphs for ONNX Runtime, with truncated ones after `layers`.

    Its modules compute in `precision`, from fp32 to fp32. The errors of the graphs are still to come.
    """
    graphs = _encoder_graphs(folder, exportable, layers, progress, precision)
    decoder = exportable.decoder
    return [*graphs, *([_step_graph(folder, decoder, progress, precision)] if decoder else [])]


def _encoder_graphs(
    folder: Path, exportable: Exportable, layers: Sequence[int], progress: Progress, precision: Precision
) -> list[Graph]:
    """Write the graphs that read clips, the full one first: parts of one trace over one file of weights."""
    outputs = tuple(output.name for output in exportable.outputs)
    lengths = [Output(name=name, shape=("batch",)) for name in exportable.lengths]
    decoder = exportable.decoder
    spec = decoder.generation if decoder else None
    cross = trace.cross_outputs(decoder.generation, decoder.frames) if decoder else ()
    progress(f"Tracing the encoder in {precision}")
    arrays = [*exportable.outputs, *lengths, *cross]
    model = trace.trace(exportable.module, arrays, exportable.min_samples, precision)
    progress("Writing the graphs")
    file, weights = trace.save(model, folder, precision)
    shared = {weights: sha256(folder / weights)}
    start: list[Graph] = []
    if spec:
        part = trace.save_truncated(folder, file, start_outputs(spec), f"{precision}.start")
        start = [_graph(folder, part, shared, precision, spec.cross, exportable.num_layers, "start")]
        trace.save_truncated(folder, file, [*outputs, *exportable.lengths], precision)
    graphs = [_graph(folder, file, shared, precision, outputs, exportable.num_layers)]
    for layer in layers:
        kept = tuple(name for name in outputs if exportable.layers[name] <= layer)
        part = trace.save_truncated(folder, file, [*kept, *exportable.lengths], f"{precision}.layers{layer}")
        graphs.append(_graph(folder, part, shared, precision, kept, layer))
    return graphs + start


def _step_graph(folder: Path, decoder: Decoder, progress: Progress, precision: Precision) -> Graph:
    """Write the graph that advances a decoder by one token."""
    progress(f"Tracing the decoder in {precision}")
    model = trace.trace_step(decoder.step, decoder.generation, precision)
    file, weights = trace.save(model, folder, f"{precision}.step")
    return _graph(folder, file, {weights: sha256(folder / weights)}, precision, (LOGITS,), 0, "step")


def _graph(
    folder: Path,
    file: str,
    weights: dict[str, str],
    precision: Precision,
    outputs: tuple[str, ...],
    layers: int,
    role: Role = "encode",
) -> Graph:
    return Graph(
        name=file.removesuffix(".onnx"),
        role=role,
        precision=precision,
        runtime="onnxruntime",
        file=file,
        sha256={file: sha256(folder / file)} | weights,
        outputs=outputs,
        layers=layers,
        opset=trace.OPSETS[precision],
        errors={},
    )


def load(folder: Path, graph: Graph) -> Session:
    """Load `graph` as a server of this host would."""
    return runtimes.find(graph.runtime).load(folder, graph, RuntimeOptions())


def measure(
    folder: Path, manifest: Manifest, graph: Graph, exportable: Exportable, clips: Sequence[Clip], load: Load = load
) -> tuple[Graph, list[Check]]:
    """Compare every output of `graph` with transformers, then replay the golden clips; ParityError out of bounds.

    Returns the graph with its errors and cosines, and the checks of the replay, with the bounds that they have on a
    host that serves. `load` loads what is measured.
    """
    session, decoder = load(folder, graph), exportable.decoder
    start: Session | None = None
    if decoder is None or graph.role == "encode":
        outputs = [manifest.output(name) for name in graph.outputs]
        batches = [[clip] for clip in clips] if graph.max_rows == 1 else [clips]
        rows = [row for batch in batches for row in run_batch(session, batch, outputs)]
        cosines = parity.check(rows, exportable.reference, clips, graph.precision)
    else:
        if graph.role == "step":
            others = (each for each in manifest.graphs if each.form == graph.form)
            start = load(folder, next(each for each in others if each.role == "start"))
        cosines = parity.check_text(session, start, decoder, clips, graph.precision)
    checks = replay(session, folder, manifest, graph, read_golden(folder, manifest), start).checks
    errors = {check.output: check.error for check in checks}
    graph = graph.model_copy(update={"errors": errors, "cosines": cosines})
    checks = [replace(check, bound=bound(graph, check.output)) for check in checks]
    if not proved(checks):
        worst = max(checks, key=lambda check: check.error / check.bound)
        raise ParityError(
            f"graph {graph.name} does not reproduce the golden clips: {worst.output} differs by {worst.error:.1e} "
            f"(bound {worst.bound:.1e}); nothing was written"
        )
    return graph, checks
