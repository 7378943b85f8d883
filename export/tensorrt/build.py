"""`sonant build`: a plan for the GPU of this host, proved and added to its engine.

An engine holds the plans of several kinds of GPU side by side. The plan is written and verified beside the engine's
files; engine.json, which names it, is replaced last and at once: whatever happens before leaves the engine as it was.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from engines import tiled
from engines.batch import Clip, Row
from engines.engine import Engine
from engines.errors import EngineError, EngineNotFoundError
from engines.manifest import MANIFEST_NAME, Graph, Manifest, Plan
from engines.runtimes import RuntimeOptions
from engines.runtimes.tensorrt import TensorRt, gpu_of, version
from engines.verify import Check, Reference, check_file, proved, read_golden
from export.errors import BuildError
from export.tensorrt.profiles import BUCKETS, profiles

if TYPE_CHECKING:
    from export.tensorrt.progress import Display

PARTIAL = ".partial-"  # begins the name of a folder that is being written; nothing reads it
WORKSPACE = 0  # bytes; TensorRT's own default is all that there are
LEVEL = 3  # TensorRT's own default


@dataclass(frozen=True)
class Request:
    """What is to be built."""

    precision: Literal["fp16", "bf16"] = "fp16"
    buckets: Sequence[float] = BUCKETS  # seconds at which a profile ends
    rows: int | None = None  # of the largest batch; None: as memory allows
    outputs: Sequence[str] = ()  # what it computes; none: what the tasks of the engine need
    workspace: int = WORKSPACE
    level: int = LEVEL
    timing_cache: Callable[[str, str], Path | None] = lambda version, capability: None  # where times are kept
    device_id: int = 0


def build(
    folder: Path, request: Request, progress: Callable[[str], None], display: Display
) -> tuple[Graph, list[Check]]:
    """Build a plan for the engine in `folder` and add it to engine.json; return its graph and how it was proved.

    `progress` is called with the name of each step, `display` is shown what the builder does. Raises BuildError, with
    the figures where the plan does not reproduce the golden clips, or EngineError; the engine is then as it was.
    """
    with _alone(folder):
        return _build(folder, request, progress, display)


def _build(
    folder: Path, request: Request, progress: Callable[[str], None], display: Display
) -> tuple[Graph, list[Check]]:
    progress("Reading the engine")
    manifest = Manifest.read(folder)
    source = _source(folder, manifest, request)
    for file, expected in source.sha256.items():
        check_file(folder / file, expected)
    golden = read_golden(folder, manifest)
    gpu = gpu_of(request.device_id)
    longest = max(len(clip) for clip, _ in golden)
    batches = profiles(manifest, longest, gpu.memory, request.buckets, request.rows)
    outputs = tuple(request.outputs) or default_outputs(manifest)
    plan = Plan(
        tensorrt=version(),
        compute_capability=gpu.capability,
        device=gpu.name,
        profiles=batches,
        source=source.name,
        source_sha256=source_hash(source),
        builder_level=request.level,
        built=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    partial = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=folder))
    try:
        progress(f"Building the plan for {gpu.name}, TensorRT {plan.tensorrt}, {len(batches)} profiles")
        data = _serialize(folder / source.file, manifest, plan, outputs, request, display)
        graph = _write(partial, data, source, plan, outputs)
        progress("Verifying every profile")
        checks = _verify(folder, partial, manifest, graph, source, golden, request)
        _register(folder, partial, graph, checks)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return graph, checks


def _source(folder: Path, manifest: Manifest, request: Request) -> Graph:
    """Return the graph to build from: the one of the encoder that has all outputs asked for."""
    precision = request.precision
    found = [
        graph
        for graph in manifest.graphs
        if (graph.runtime, graph.precision, graph.role) == ("onnxruntime", precision, "encode")
    ]
    if not found:
        raise BuildError(
            f"{folder} has no {precision} graph: export the engine again with --precision fp32,{precision}"
        )
    graph = max(found, key=lambda graph: graph.layers)
    wanted = tuple(request.outputs) or default_outputs(manifest)
    if not wanted:
        raise BuildError(f"{folder}: its tasks are served by a decoder, for which no plan is built")
    if missing := sorted(set(wanted) - set(graph.outputs)):
        raise BuildError(f"--outputs {missing[0]}: graph {graph.name} computes {', '.join(graph.outputs)}")
    if not set(wanted) & set(manifest.golden.outputs):
        raise BuildError(f"--outputs {','.join(wanted)}: add one that proves the plan, {manifest.golden.outputs[-1]}")
    return graph


def default_outputs(manifest: Manifest) -> tuple[str, ...]:
    """Return what the results of the engine's tasks are made of, in the order of the engine's outputs."""
    needed = set(manifest.task_outputs.values())
    return tuple(output.name for output in manifest.outputs if output.name in needed)


def lengths(manifest: Manifest, outputs: Sequence[str]) -> set[str]:
    """Return the names of the lengths of `outputs`."""
    return {name for output in map(manifest.output, outputs) if (name := output.lengths)}


def source_hash(graph: Graph) -> str:
    """Return the SHA-256 over all that `graph` reads: its file, and the weights outside of it."""
    lines = [f"{file} {digest}\n" for file, digest in sorted(graph.sha256.items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _serialize(
    source: Path, manifest: Manifest, plan: Plan, outputs: Sequence[str], request: Request, display: Display
) -> bytes:
    from engines.runtimes.tensorrt import device  # here, since they import what GPU hosts only have
    from export.tensorrt import builder

    device.use(request.device_id)
    settings = builder.Settings(
        profiles=plan.profiles,
        outputs=(*outputs, *sorted(lengths(manifest, outputs))),
        level=request.level,
        workspace=request.workspace,
        timing_cache=request.timing_cache(plan.tensorrt, plan.compute_capability),
    )
    return builder.build(source, settings, display)


def _write(partial: Path, data: bytes, source: Graph, plan: Plan, outputs: tuple[str, ...]) -> Graph:
    """Write the plan and return its graph, whose errors are those of its source until they are measured."""
    name = f"tensorrt.{source.precision}.sm{plan.compute_capability.replace('.', '')}"
    digest = hashlib.sha256(data).hexdigest()
    file = f"{name}.{digest[:8]}.plan"  # another than that of the plan which it may replace
    (partial / file).write_bytes(data)
    return Graph(
        name=name,
        precision=source.precision,
        runtime="tensorrt",
        devices=("cuda",),
        file=file,
        sha256={file: digest},
        outputs=outputs,
        layers=source.layers,
        errors={output: source.errors[output] for output in outputs if output in source.errors},
        plan=plan,
    )


def _verify(
    folder: Path,
    partial: Path,
    manifest: Manifest,
    graph: Graph,
    source: Graph,
    golden: Sequence[Reference],
    request: Request,
) -> list[Check]:
    """Return the checks of the plan, against transformers and the fp32 graph; BuildError where it is out of bounds."""
    session = TensorRt().load(partial, graph, RuntimeOptions("cuda", device_id=request.device_id))
    checks = tiled.check(session, manifest, graph, golden, _exact(folder, graph))
    if not proved(checks):
        bad = "; ".join(f"{c.output}: {c.error:.1e} (bound {c.bound:.1e})" for c in checks if not c.ok)
        raise BuildError(
            f"the plan does not compute what {source.name} does and was not added ({bad}): try another --level, "
            "--precision or version of TensorRT"
        )
    return checks


def _exact(folder: Path, graph: Graph) -> Callable[[Clip], Row] | None:
    """Return what computes a clip of any length in fp32; None where ONNX Runtime, or its graph, does not work here."""
    try:
        engine = Engine(folder, options=RuntimeOptions(runtime="onnxruntime", precision="fp32"))
        engine.load_for(graph.outputs)
    except EngineError:
        return None
    known: dict[int, Row] = {}  # by length, of which there is one clip

    def exact(clip: Clip) -> Row:
        if len(clip) not in known:
            known[len(clip)] = engine.run([clip], graph.outputs)[0]
        return known[len(clip)]

    return exact


def _register(folder: Path, partial: Path, graph: Graph, checks: Sequence[Check]) -> None:
    """Put the plan in the engine's folder, then replace engine.json; then remove the plan that it replaces."""
    errors = {check.output: check.error for check in checks if check.output in graph.outputs}
    proven = graph.model_copy(update={"errors": errors})
    manifest = Manifest.read(folder)  # again: the plan for another GPU may have been added meanwhile
    others = tuple(each for each in manifest.graphs if each.name != graph.name)
    replaced = [each.file for each in manifest.graphs if each.name == graph.name and each.file != graph.file]
    added = Manifest.model_validate({**manifest.model_dump(), "graphs": [*others, proven]})
    (partial / graph.file).replace(folder / graph.file)
    added.write(partial)
    (partial / MANIFEST_NAME).chmod((folder / MANIFEST_NAME).stat().st_mode)
    (partial / MANIFEST_NAME).replace(folder / MANIFEST_NAME)
    for file in replaced:
        (folder / file).unlink(missing_ok=True)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other builds from this engine, and remove what one that was killed left."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise EngineNotFoundError(f"{folder} cannot be opened ({error.strerror})") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for path in folder.glob(f"{PARTIAL}*"):
            shutil.rmtree(path, ignore_errors=True)
        yield
    except BlockingIOError:
        raise BuildError(f"{folder}: another plan is being built; try again when it is done") from None
    finally:
        os.close(descriptor)
