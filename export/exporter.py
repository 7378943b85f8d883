"""The whole way from a checkpoint to an engine folder that has proved itself."""

from __future__ import annotations

import math
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from safetensors import SafetensorError

from engines.batch import Clip
from engines.digest import sha256
from engines.engine import Engine
from engines.errors import EngineError
from engines.manifest import MANIFEST_NAME, Checkpoint, Manifest, Precision, RuntimeName
from engines.verify import Check
from export import checkpoint as checkpoints
from export import families, golden, graphs, parity, precision
from export.errors import ExportError, UnsupportedError
from export.exportable import Exportable, Options
from export.graphs import Progress
from export.outputs import DEFAULT_OUTPUTS, build
from export.precision.audio import read_audio
from export.precision.form import Source

PARTIAL = ".partial-"  # begins the name of a folder that is being written; `engines.repository` does not look at it
CALIBRATED: set[Precision] = {"fp16", "int8"}  # what values of audio are of use for


def export(
    source: str,
    output: Path | None = None,
    *,
    revision: str | None = None,
    target_lang: str | None = None,
    variant: str | None = None,
    head: Path | None = None,
    outputs: Sequence[str] = DEFAULT_OUTPUTS,
    layers: Sequence[int] = (),
    max_seconds: float = 60.0,
    precisions: Sequence[Precision] = ("fp32",),
    runtimes: Sequence[RuntimeName] = ("onnxruntime",),
    calibrate: Path | None = None,
    force: bool = False,
    progress: Progress = lambda step: None,
) -> Engine:
    """Export the checkpoint `source`, a folder or a hub id, into the folder `output` (default models/NAME).

    `outputs` names what to keep of `export.outputs.OUTPUTS`; a task whose output is left out is not served. `layers`
    asks for graphs that stop after so many encoder layers. `variant` is a named departure from what transformers
    computes. `head` is a classifier over the pooled embeddings, in a file as `export.head` describes it.

    Beside ONNX Runtime's fp32 graphs, those are written that there are of `precisions` for `runtimes`. `calibrate` is a
    folder of audio, on which the ranges of the encoder's values are measured for the lower ones.

    The folder appears under its name when all of it is written and verified, so that a killed export leaves nothing
    that loads; an existing one is kept unless `force`. With `force`, a kill between the two renames at the very end
    leaves nothing at `output`, but both engines whole beside it: the old one in `.partial-old-*/NAME`, the new one in
    `.partial-NAME-*`; rename either to `output`.
    Raises ExportError, or EngineError where a graph that was written does not load or run.
    """
    if not 0 < max_seconds < math.inf:
        raise ExportError(f"--max-seconds {max_seconds}: it must be a number of seconds above 0")
    keys = precision.choose(precisions, runtimes)
    if calibrate is not None and not CALIBRATED & set(precisions):
        raise UnsupportedError(f"--calibrate is for {' and '.join(sorted(CALIBRATED))}; add one to --precision")
    progress("Reading the checkpoint")
    checkpoint = checkpoints.resolve(source, revision, target_lang)
    output = output or Path("models") / checkpoint.name
    with _writing(output):
        _check_replaceable(output, force)
    exportable = build(checkpoint, Options("attentions" in outputs, variant, head), outputs)
    layers = sorted(set(layers))
    for layer in layers:
        if not 0 <= layer < exportable.num_layers:
            raise UnsupportedError(f"--layers {layer}: the encoder has the layers 0 to {exportable.num_layers - 1}")
    if layers and "hidden_states" not in outputs:
        raise UnsupportedError(
            "--layers: a graph that stops early is there for its hidden states; add them to --outputs"
        )
    max_samples = min(round(max_seconds * exportable.sample_rate), exportable.max_samples or sys.maxsize)
    if max_samples < exportable.min_samples:
        shortest = exportable.min_samples / exportable.sample_rate
        raise ExportError(f"--max-seconds {max_seconds}: the shortest clip that the encoder takes has {shortest} s")
    audio = () if calibrate is None else read_audio(calibrate, exportable)
    with _writing(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f"{PARTIAL}{output.name}-", dir=output.parent))
        try:
            checks = _write(partial, checkpoint, exportable, variant, layers, max_samples, keys, audio, progress)
            engine = Engine(partial)
            _make_readable(partial)
            _replace(partial, output, force)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    engine.folder, engine.name, engine.checks = output, output.name, checks
    return engine


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
    keys: Sequence[precision.Key],
    audio: Sequence[Clip],
    progress: Progress,
) -> dict[str, list[Check]]:
    """Write the engine into `folder`, engine.json last; return what the replay of each graph measured."""
    decoder = exportable.decoder
    progress("Computing the golden clips with transformers")
    kept = golden.kept_outputs(exportable, layers)
    clips = golden.make_clips(exportable, kept)
    exportable = replace(exportable, reference=parity.Remembered(exportable.reference, clips))
    spec = golden.describe(exportable, len(clips), kept)
    golden.write(folder / spec.file, clips, golden.reference_of(exportable, spec), spec.kept)
    exact = graphs.write(folder, exportable, layers, progress)
    source = Source(folder, exportable, tuple(layers), tuple(exact), tuple(clips), tuple(audio), progress)
    forms = precision.write(source, keys)
    if decoder:
        (folder / decoder.generation.tokenizer).write_bytes(decoder.tokenizer)
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
        parameters=graphs.count_parameters(exportable),
        outputs=exportable.outputs,
        ctc=exportable.ctc,
        classification=exportable.classification,
        generation=decoder.generation if decoder else None,
        variant=variant,
        variant_difference=parity.variant_difference(exportable, clips),
        graphs=tuple(graph for form in forms for graph in form.graphs),
        golden=spec.model_copy(update={"sha256": sha256(folder / spec.file)}),
        created={name: version(name) for name in ("sonant", "torch", "transformers", "onnx-ir")}
        | {"python": platform.python_version()},
        target_lang=checkpoint.target_lang,
        head=exportable.head,
    )
    progress("Comparing the graphs with transformers")
    measured = []
    for form in forms:
        for graph in form.graphs:
            found = [graphs.measure(folder, manifest, graph, exportable, clips, load) for load in form.loads]
            measured.append(found[0])
    manifest.model_copy(update={"graphs": tuple(graph for graph, _ in measured)}).write(folder)
    return {graph.name: checks for graph, checks in measured}


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
