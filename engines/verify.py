"""Replay of the golden clips: what does not come out as transformers computed it is not served."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from engines import digest, files, generation
from engines.batch import INPUTS, Clip, Row, run_batch
from engines.errors import EngineInvalidError, EngineNotFoundError, EngineTamperedError, OutOfMemoryError
from engines.manifest import LOGITS, TOKENS, Graph, Manifest, Precision
from engines.parts import TEXT_LOGITS
from engines.runtimes import Session, first_line, resident

# The largest error a precision may have on the golden clips, whatever was measured at export: fp32 as at export with a
# digit for another host's kernels; fp16 and bf16 some 20 and 13 times their own rounding (2**-10, 2**-7), which adds up
# over the layers; int8 what eight bits leave of activations as uneven as those of a transformer.
POLICY: dict[Precision, float] = {"fp32": 1e-4, "fp16": 2e-2, "bf16": 1e-1, "int8": 2e-1}
# Kernels of another host round differently from those of the host that exported, by less than this factor ...
SLACK = 4.0
# ... of an error that is at least a few roundings of fp32, lest an output that came out exact binds every host.
FLOOR = 2.5e-6
# Below this largest absolute value of the reference the error is absolute: a relative one would measure rounding.
SILENCE = 1e-3

Reference = tuple[Clip, Row]  # a golden clip and what is kept of it
Run = Callable[[Sequence[Reference], float], list[Row]]


@dataclass(frozen=True)
class Check:
    """The error of one output of one graph: the worst golden clip alone, and the worst in one padded batch."""

    graph: str
    output: str
    alone: float
    batch: float
    bound: float

    @property
    def error(self) -> float:
        """The larger of the two errors; NaN if either is."""
        return float(np.maximum(self.alone, self.batch))

    @property
    def ok(self) -> bool:
        """Whether both errors are within the bound; NaN is not."""
        return self.alone <= self.bound and self.batch <= self.bound


@dataclass(frozen=True)
class Replay:
    """What came of the golden clips in one graph."""

    checks: list[Check]
    seconds_per_second: float  # of the fastest run, by the audio in it


def error(result: NDArray[np.floating], reference: NDArray[np.floating]) -> float:
    """Return max |result - reference| / max |reference|, absolute where |reference| stays below 1e-3.

    Infinity where the shapes differ or a value of either is not finite.
    """
    if result.shape != reference.shape or not (np.isfinite(result).all() and np.isfinite(reference).all()):
        return float("inf")
    if reference.size == 0:
        return 0.0
    difference = float(np.abs(result.astype(np.float64) - reference).max())
    scale = float(np.abs(reference).max())
    return difference / scale if scale >= SILENCE else difference


def proved(checks: Sequence[Check]) -> bool:
    """Whether the checks of one graph let it be served: there are some, and all are within their bounds."""
    return bool(checks) and all(check.ok for check in checks)


def replay(
    session: Session,
    folder: Path,
    manifest: Manifest,
    graph: Graph,
    golden: Sequence[Reference],
    start: Session | None = None,
) -> Replay:
    """Run the `golden` clips through `session`, each alone and all as one batch with NaN beyond their lengths.

    A step graph is led through the golden texts, over what `start`, the session of the start graph, computes. Raises
    EngineInvalidError where the graph has other inputs and outputs than engine.json says, or fails, OutOfMemoryError
    where the host is short of memory.
    """
    check_interface(session, folder / graph.file, manifest, graph)
    runner = _runner(session, manifest, graph, start)
    speeds: list[float] = []

    def run(golden: Sequence[Reference], padding: float) -> list[Row]:
        begun = time.perf_counter()
        rows = runner(golden, padding)
        samples = sum(clip.shape[0] for clip, _ in golden)
        speeds.append((time.perf_counter() - begun) * manifest.sample_rate / samples)
        return rows

    try:
        alone = [run([each], 0.0)[0] for each in golden]
        batch = alone if graph.max_rows == 1 else run(golden, float("nan"))
    except OutOfMemoryError:
        raise
    except Exception as problem:  # a runtime's exceptions share no base class but Exception
        raise EngineInvalidError(
            f"{folder / graph.file} fails on the golden clips ({first_line(problem)}); export the engine again"
        ) from None

    def worst(rows: list[Row], output: str) -> float:
        kept = TEXT_LOGITS if graph.role == "step" else output
        return max(error(row[output], truth[kept]) for row, (_, truth) in zip(rows, golden, strict=True))

    checks = [
        Check(graph.name, output, worst(alone, output), worst(batch, output), bound(graph, output))
        for output in manifest.proved(graph)
    ]
    return Replay(checks, min(speeds))


def _runner(session: Session, manifest: Manifest, graph: Graph, start: Session | None) -> Run:
    """Return what runs golden clips as one batch, with a number beyond their lengths, for the outputs to compare."""
    spec = manifest.generation
    if spec is None or graph.role == "encode":
        outputs = [manifest.output(name) for name in manifest.proved(graph)]
        return lambda golden, padding: [
            {output.name: row[output.name][manifest.golden.cut(output)] for output in outputs}
            for row in run_batch(session, [clip for clip, _ in golden], outputs, padding)
        ]
    if start is None:
        return lambda golden, padding: [
            {name: array[:, : manifest.golden.rows] for name, array in row.items()}
            for row in generation.cross_rows(resident(session), spec, [clip for clip, _ in golden], padding)
        ]

    def run(golden: Sequence[Reference], padding: float) -> list[Row]:
        beams = min(2, len(golden))  # one for a clip alone
        state = generation.start(resident(start), spec, [clip for clip, _ in golden], beams, padding)
        texts = np.stack([truth[TOKENS] for _, truth in golden]).astype(np.int64)
        logits = generation.follow(resident(session), spec, state, texts)
        return [{LOGITS: row[:, :: manifest.golden.stride]} for row in logits]

    return run


def check_interface(session: Session, path: Path, manifest: Manifest, graph: Graph) -> None:
    """Raise EngineInvalidError unless `session` has the contract's inputs and the outputs that engine.json names."""
    inputs, outputs = _interface(manifest, graph)
    if set(session.inputs) != set(inputs):
        raise EngineInvalidError(
            f"{path} has the inputs {', '.join(session.inputs)}, not {', '.join(inputs)}; export the engine again"
        )
    missing = sorted(set(outputs) - set(session.outputs))
    if missing:
        raise EngineInvalidError(f"{path} does not compute {', '.join(missing)}; export the engine again")


def _interface(manifest: Manifest, graph: Graph) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the inputs and outputs of a graph of this role."""
    spec = manifest.generation
    if spec is None or graph.role == "encode":
        lengths = {output.lengths for output in map(manifest.output, graph.outputs) if output.lengths}
        return INPUTS, (*graph.outputs, *lengths)
    if graph.role == "start":
        return INPUTS, generation.start_outputs(spec)
    return generation.step_inputs(spec), generation.step_outputs(spec)


def bound(graph: Graph, output: str) -> float:
    """Return the largest error that `output` of `graph` may have when the golden clips are replayed."""
    return min(POLICY[graph.precision], SLACK * max(graph.errors.get(output, 0.0), FLOOR))


def read_golden(folder: Path, manifest: Manifest) -> list[Reference]:
    """Return the golden clips with their reference outputs. Raises EngineError where the file is not as exported."""
    golden = manifest.golden
    path = folder / golden.file
    check_file(path, golden.sha256)
    try:
        tensors = load_file(path)
        return [
            (tensors[f"{index}.waveform"], {name: tensors[f"{index}.{name}"] for name in golden.kept})
            for index in range(golden.clips)
        ]
    except (SafetensorError, KeyError, OSError) as problem:
        raise EngineInvalidError(f"{path} cannot be read ({problem}); export the engine again") from None


def check_file(path: Path, sha256: str) -> None:
    """Raise EngineTamperedError if `path` does not have this SHA-256, another EngineError if it cannot be read."""
    try:
        files.check_regular(path)
        found = digest.sha256(path)
    except FileNotFoundError:
        raise EngineNotFoundError(f"{path} is missing: the engine is incomplete; export or copy it again") from None
    except OSError as problem:
        raise EngineInvalidError(f"{path} cannot be read ({problem.strerror}); export or copy it again") from None
    if found != sha256:
        raise EngineTamperedError(
            f"{path} is not the file that was exported (SHA-256 {found[:12]}..., expected {sha256[:12]}...): "
            "it was changed or cut short; export or copy the engine again"
        )
