"""The whole way from a checkpoint to an engine folder that has proved itself."""

from __future__ import annotations

import hashlib
import math
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from safetensors import SafetensorError
from torch import Tensor, nn

from engines import runtimes
from engines.batch import Clip, run_batch
from engines.engine import Engine
from engines.errors import EngineError
from engines.manifest import MANIFEST_NAME, Checkpoint, Golden, Graph, Manifest, Output, Task
from engines.runtimes import RuntimeOptions
from engines.verify import Check, bound, proved, replay
from export import checkpoint as checkpoints
from export import families, parity, trace
from export.errors import ExportError, ParityError, UnsupportedError
from export.exportable import Exportable, Options

PRECISION = "fp32"
PARTIAL = ".partial-"  # begins the name of a folder that is being written; `engines.repository` does not look at it
# What an engine can compute, where the checkpoint has it. Attention probabilities grow with the square of the length
# and take a slower path than the fused one, so they are there only for those who ask.
OUTPUTS = ("embeddings", "pooled", "logits", "hidden_states", "attentions")
DEFAULT_OUTPUTS = OUTPUTS[:-1]
Progress = Callable[[str], None]


def export(
    source: str,
    output: Path | None = None,
    *,
    revision: str | None = None,
    target_lang: str | None = None,
    variant: str | None = None,
    outputs: Sequence[str] = DEFAULT_OUTPUTS,
    layers: Sequence[int] = (),
    max_seconds: float = 60.0,
    force: bool = False,
    progress: Progress = lambda step: None,
) -> Engine:
    """Export the checkpoint `source`, a folder or a hub id, into the folder `output` (default models/NAME).

    `outputs` names what to keep of `OUTPUTS`; a task whose output is left out is not served. `layers` asks for graphs
    that stop after so many encoder layers. `variant` is a named departure from what transformers computes.

    The folder appears under its name when all of it is written and verified, so that a killed export leaves nothing
    that loads; an existing one is kept unless `force`. With `force`, a kill between the two renames at the very end
    leaves nothing at `output`, but both engines whole beside it: the old one in `.partial-old-*/NAME`, the new one in
    `.partial-NAME-*`; rename either to `output`.
    Raises ExportError, or EngineError where a graph that was written does not load or run.
    """
    if not 0 < max_seconds < math.inf:
        raise ExportError(f"--max-seconds {max_seconds}: it must be a number of seconds above 0")
    progress("Reading the checkpoint")
    checkpoint = checkpoints.resolve(source, revision, target_lang)
    output = output or Path("models") / checkpoint.name
    with _writing(output):
        _check_replaceable(output, force)
    exportable = _build(checkpoint, Options("attentions" in outputs, variant), outputs)
    layers = sorted(set(layers))
    for layer in layers:
        if not 0 <= layer < exportable.num_layers:
            raise UnsupportedError(f"--layers {layer}: the encoder has the layers 0 to {exportable.num_layers - 1}")
    max_samples = min(round(max_seconds * exportable.sample_rate), exportable.max_samples or sys.maxsize)
    if max_samples < exportable.min_samples:
        shortest = exportable.min_samples / exportable.sample_rate
        raise ExportError(f"--max-seconds {max_seconds}: the shortest clip that the encoder takes has {shortest} s")
    with _writing(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f"{PARTIAL}{output.name}-", dir=output.parent))
        try:
            checks = _write(partial, checkpoint, exportable, variant, layers, max_samples, progress)
            engine = Engine(partial)
            _make_readable(partial)
            _replace(partial, output, force)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    engine.folder, engine.name, engine.checks = output, output.name, checks
    return engine


def _build(checkpoint: checkpoints.Checkpoint, options: Options, wanted: Sequence[str]) -> Exportable:
    """Make the exportable, with those of its outputs that are `wanted` and the tasks that these allow."""
    if unknown := sorted(set(wanted) - set(OUTPUTS)):
        raise UnsupportedError(f"--outputs {unknown[0]}: it can be of {', '.join(OUTPUTS)}")
    exportable = families.build(checkpoint, options)
    kept = [index for index, spec in enumerate(exportable.outputs) if spec.name.partition(".")[0] in wanted]
    tasks = tuple(task for task in exportable.tasks if _needed(task, exportable) in {None, *wanted})
    if not tasks:
        raise UnsupportedError(f"--outputs {','.join(wanted)}: none of them serves a task of this checkpoint")
    outputs = tuple(exportable.outputs[index] for index in kept)
    timed = {spec.lengths for spec in outputs}
    lengths = tuple(name for name in exportable.lengths if name in timed)
    first = len(exportable.outputs)
    kept += [first + index for index, name in enumerate(exportable.lengths) if name in timed]
    return replace(
        exportable, module=_Chosen(exportable.module, kept).eval(), outputs=outputs, lengths=lengths, tasks=tasks
    )


def _needed(task: Task, exportable: Exportable) -> str | None:
    """Return the output that `task` is computed from; None where it has graphs of its own."""
    if task == "encode":
        return "embeddings"
    return "logits" if exportable.ctc or exportable.classification else None


class _Chosen(nn.Module):
    """The outputs of a module at the places `kept`."""

    def __init__(self, module: nn.Module, kept: Sequence[int]) -> None:
        super().__init__()
        self.module, self.kept = module, tuple(kept)

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        """Map waveform [batch, samples] and lengths [batch] to the chosen arrays."""
        arrays = self.module(waveform, lengths)
        return tuple(arrays[index] for index in self.kept)


@contextmanager
def _writing(output: Path) -> Iterator[None]:
    """Raise ExportError that names `output` where the file system refuses something."""
    try:
        yield
    except EngineError:  # some are OSErrors too
        raise
    except (OSError, SafetensorError) as error:
        raise ExportError(
            f"{output} cannot be written ({error}): make room and see that {output.parent} is a folder that you may "
            "write to, or name another with --output"
        ) from None


def _check_replaceable(output: Path, force: bool) -> None:
    """Raise ExportError where something stands at `output` that must stay."""
    if not output.exists():
        return
    if not (output / MANIFEST_NAME).is_file():
        raise ExportError(f"{output} exists and is no engine: it is never replaced; name another with --output")
    if not force:
        raise ExportError(f"{output} exists: name another folder with --output, or replace it with --force")


def _write(
    folder: Path,
    checkpoint: checkpoints.Checkpoint,
    exportable: Exportable,
    variant: str | None,
    layers: Sequence[int],
    max_samples: int,
    progress: Progress,
) -> dict[str, list[Check]]:
    """Write the engine into `folder`, engine.json last; return what the replay of each graph measured."""
    parameters = sum(parameter.numel() for parameter in exportable.module.parameters())
    outputs = tuple(output.name for output in exportable.outputs)
    progress("Computing the golden clips with transformers")
    kept = parity.golden_outputs(exportable, layers)
    clips = parity.golden_clips(exportable, kept)
    golden = Golden(clips=len(clips), outputs=kept, sha256="0" * 64)
    parity.write_golden(folder / golden.file, clips, exportable.reference, kept)
    lengths = [Output(name=name, shape=("batch",)) for name in exportable.lengths]
    progress("Tracing the encoder")
    model = trace.trace(exportable.module, [*exportable.outputs, *lengths], exportable.min_samples)
    progress("Writing the graphs")
    file, weights = trace.save(model, folder, PRECISION)
    shared = {weights: _sha256(folder / weights)}
    graphs = [_graph(folder, PRECISION, file, shared, outputs, exportable.num_layers)]
    for layer in layers:
        part = tuple(name for name in outputs if exportable.layers[name] <= layer)
        name = f"{PRECISION}.layers{layer}"
        file = trace.save_truncated(folder, graphs[0].file, [*part, *exportable.lengths], name)
        graphs.append(_graph(folder, name, file, shared, part, layer))
    manifest = Manifest(
        family=families.find(checkpoint).name,
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
        max_samples=max_samples,
        preprocessor=exportable.preprocessor,
        hidden_size=exportable.hidden_size,
        num_layers=exportable.num_layers,
        parameters=parameters,
        outputs=exportable.outputs,
        ctc=exportable.ctc,
        classification=exportable.classification,
        variant=variant,
        graphs=tuple(graphs),
        golden=golden.model_copy(update={"sha256": _sha256(folder / golden.file)}),
        created={name: version(name) for name in ("sonant", "torch", "transformers", "onnx-ir")}
        | {"python": platform.python_version()},
        target_lang=checkpoint.target_lang,
    )
    progress("Comparing the graphs with transformers")
    checks = {graph.name: _checked(folder, manifest, graph, exportable, clips) for graph in graphs}
    graphs = [graph.model_copy(update={"errors": {c.output: c.error for c in checks[graph.name]}}) for graph in graphs]
    manifest.model_copy(update={"graphs": tuple(graphs)}).write(folder)
    return checks


def _checked(
    folder: Path, manifest: Manifest, graph: Graph, exportable: Exportable, clips: Sequence[Clip]
) -> list[Check]:
    """Compare every output of `graph` with transformers, then replay the golden clips; ParityError out of bounds.

    The bounds of the checks are those that a host that serves will have.
    """
    session = runtimes.find(graph.runtime).load(folder, graph, RuntimeOptions())
    rows = run_batch(session, clips, [manifest.output(name) for name in graph.outputs])
    parity.check(rows, exportable.reference, clips)
    checks = replay(session, folder, manifest, graph)
    measured = graph.model_copy(update={"errors": {check.output: check.error for check in checks}})
    checks = [replace(check, bound=bound(measured, check.output)) for check in checks]
    if not proved(checks):
        worst = max(checks, key=lambda check: check.error / check.bound)
        raise ParityError(
            f"graph {graph.name} does not reproduce the golden clips: {worst.output} differs by {worst.error:.1e} "
            f"(bound {worst.bound:.1e}); nothing was written"
        )
    return checks


def _graph(folder: Path, name: str, file: str, shared: dict[str, str], outputs: tuple[str, ...], layers: int) -> Graph:
    return Graph(
        name=name,
        precision=PRECISION,
        runtime="onnxruntime",
        file=file,
        sha256={file: _sha256(folder / file)} | shared,
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


def _replace(partial: Path, output: Path, force: bool) -> None:
    """Move `partial` to `output`; an engine that stands there is moved aside first, and back if that fails."""
    _check_replaceable(output, force)  # again: the export took minutes
    if not output.exists():
        partial.rename(output)
        return
    aside = Path(tempfile.mkdtemp(prefix=f"{PARTIAL}old-", dir=output.parent))
    old = aside / output.name
    try:
        output.rename(old)
        partial.rename(output)
    except BaseException:
        if old.exists():
            old.rename(output)
        aside.rmdir()
        raise
    shutil.rmtree(aside, ignore_errors=True)  # the new engine is there: what is left of the old does no harm


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
