"""The whole way from a checkpoint to an engine folder that has proved itself."""

from __future__ import annotations

import hashlib
import platform
import shutil
import tempfile
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from engines import runtimes
from engines.batch import Clip, run_batch
from engines.engine import Engine
from engines.manifest import MANIFEST_NAME, Checkpoint, Golden, Graph, Manifest
from engines.runtimes import RuntimeOptions
from engines.verify import Check, replay
from export import checkpoint as checkpoints
from export import families, parity, trace
from export.errors import ExportError, UnsupportedError
from export.families import Exportable

PRECISION = "fp32"
PARTIAL = ".partial-"  # begins the name of a folder that is being written; `engines.repository` does not look at it
Progress = Callable[[str], None]


def export(
    source: str,
    output: Path | None = None,
    *,
    revision: str | None = None,
    target_lang: str | None = None,
    layers: Sequence[int] = (),
    max_seconds: float = 60.0,
    force: bool = False,
    progress: Progress = lambda step: None,
) -> Engine:
    """Export the checkpoint `source`, a folder or a hub id, into the folder `output` (default models/NAME).

    `layers` asks for graphs that stop after so many encoder layers. The folder appears under its name when all of it
    is written and verified, so that a killed export leaves nothing that loads; an existing one is kept unless `force`.
    Raises ExportError, or EngineError where what was written does not verify.
    """
    progress("Reading the checkpoint")
    checkpoint = checkpoints.resolve(source, revision, target_lang)
    output = output or Path("models") / checkpoint.name
    if output.exists() and not force:
        raise ExportError(f"{output} exists: name another folder with --output, or replace it with --force")
    if output.exists() and not (output / MANIFEST_NAME).is_file():
        raise ExportError(f"{output} exists and is no engine: it is not replaced")
    exportable = families.build(checkpoint)
    layers = sorted(set(layers))
    for layer in layers:
        if not 0 <= layer < exportable.num_layers:
            raise UnsupportedError(f"--layers {layer}: the encoder has the layers 0 to {exportable.num_layers - 1}")
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f"{PARTIAL}{output.name}-", dir=output.parent))
    try:
        manifest = _write(partial, checkpoint, exportable, layers, max_seconds, progress)
        progress("Replaying the golden clips as a server does")
        engine = Engine(partial)
        for graph in manifest.graphs:
            engine.load(graph)
        _make_readable(partial)
        _replace(partial, output)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    engine.folder, engine.name = output, output.name
    return engine


def _write(
    folder: Path,
    checkpoint: checkpoints.Checkpoint,
    exportable: Exportable,
    layers: Sequence[int],
    max_seconds: float,
    progress: Progress,
) -> Manifest:
    parameters = sum(parameter.numel() for parameter in exportable.module.parameters())
    outputs = tuple(output.name for output in exportable.outputs)
    progress("Computing the golden clips with transformers")
    kept = parity.golden_outputs(exportable, layers)
    clips = parity.golden_clips(exportable, kept)
    golden = Golden(clips=len(clips), outputs=kept, sha256="0" * 64)
    parity.write_golden(folder / golden.file, clips, exportable.reference, kept)
    progress("Tracing the encoder")
    model = trace.trace(exportable.module, [*outputs, *exportable.lengths], exportable.min_samples)
    progress("Writing the graphs")
    file, weights = trace.save(model, folder, PRECISION)
    graphs = [_graph(folder, PRECISION, file, weights, outputs, exportable.num_layers)]
    for layer in layers:
        part = tuple(name for name in outputs if exportable.layers[name] <= layer)
        name = f"{PRECISION}.layers{layer}"
        file = trace.save_truncated(folder, graphs[0].file, [*part, *exportable.lengths], name)
        graphs.append(_graph(folder, name, file, weights, part, layer))
    manifest = Manifest(
        family=checkpoint.config.model_type,
        tasks=exportable.tasks,
        checkpoint=Checkpoint(
            source=checkpoint.source,
            revision=checkpoint.revision,
            sha256=checkpoint.sha256,
            architecture=checkpoint.architecture,
            license=checkpoint.license,
        ),
        sample_rate=exportable.sample_rate,
        min_samples=exportable.min_samples,
        max_samples=max(exportable.min_samples, int(max_seconds * exportable.sample_rate)),
        preprocessor=exportable.preprocessor,
        hidden_size=exportable.hidden_size,
        num_layers=exportable.num_layers,
        parameters=parameters,
        outputs=exportable.outputs,
        ctc=exportable.ctc,
        classification=exportable.classification,
        graphs=tuple(graphs),
        golden=golden.model_copy(update={"sha256": _sha256(folder / golden.file)}),
        created={name: version(name) for name in ("sonant", "torch", "transformers", "onnx-ir")}
        | {"python": platform.python_version()},
        target_lang=checkpoint.target_lang,
    )
    progress("Comparing with transformers")
    graphs = [_measured(folder, manifest, graph, exportable, clips) for graph in manifest.graphs]
    manifest = manifest.model_copy(update={"graphs": tuple(graphs)})
    manifest.write(folder)
    return manifest


def _measured(folder: Path, manifest: Manifest, graph: Graph, exportable: Exportable, clips: Sequence[Clip]) -> Graph:
    """Return `graph` with its errors on the golden clips, all of its outputs having been compared with transformers."""
    session = runtimes.find(graph.runtime).load(folder, graph, RuntimeOptions())
    parity.check(run_batch(session, manifest, clips, graph.outputs), exportable.reference, clips)
    checks: list[Check] = replay(session, folder, manifest, graph)
    return graph.model_copy(update={"errors": {check.output: check.error for check in checks}})


def _graph(folder: Path, name: str, file: str, weights: str, outputs: tuple[str, ...], layers: int) -> Graph:
    return Graph(
        name=name,
        precision=PRECISION,
        runtime="onnxruntime",
        file=file,
        sha256={each: _sha256(folder / each) for each in (file, weights)},
        outputs=outputs,
        layers=layers,
        opset=trace.OPSET,
        errors={},
    )


def _make_readable(folder: Path) -> None:
    """Give the usual permissions to a temporary folder and its files: a server may run as another user."""
    folder.chmod(0o755)
    for path in folder.iterdir():
        path.chmod(0o644)


def _replace(partial: Path, output: Path) -> None:
    """Move `partial` to `output`; an engine that stands there is moved aside first and then removed."""
    old: Path | None = None
    if output.exists():
        old = Path(tempfile.mkdtemp(prefix=f"{PARTIAL}old-", dir=output.parent)) / output.name
        output.rename(old)
    partial.rename(output)
    if old is not None:
        shutil.rmtree(old.parent)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
