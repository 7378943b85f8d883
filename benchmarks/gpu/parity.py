"""Every family's graphs on the device against torch, there and on the CPU, alone and in mixed batches."""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnxruntime

from benchmarks import console, machine, models
from benchmarks.exports.families import specimens
from benchmarks.gpu import subjects
from benchmarks.gpu.subjects import TorchEncoder
from benchmarks.records.gpu import GpuParity, ParityCell
from engines.batch import Clip, Row, run_batch
from engines.engine import Engine
from engines.manifest import Precision
from engines.runtimes import Session, first_line
from engines.verify import POLICY, error
from export import checkpoint as checkpoints
from export import families
from export.exporter import export
from sonant.terminal import steps
from tests.zoo import Kind, Specimen, kinds

DRY_RUN = {"families": ("hubert",), "precisions": ("fp32",), "lengths": (0.3, 0.8)}
NAN = float("nan")
PROVIDERS = {"cpu": ["CPUExecutionProvider"], "cuda": ["CUDAExecutionProvider", "CPUExecutionProvider"]}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this scenario."""
    parser.add_argument("--families", type=console.numbers(str), default=tuple(kinds()), metavar="NAME,NAME")
    parser.add_argument("--all", action="store_true", help="every class of them, not the first one only")
    parser.add_argument("--precisions", type=console.numbers(str), default=subjects.PRECISIONS, metavar="NAME,NAME")
    parser.add_argument("--lengths", type=console.numbers(float), default=(0.31, 1.0, 2.7, 7.9), help="in seconds")


def measure(arguments: argparse.Namespace) -> GpuParity:
    """Export and compare every family; ExportError or EngineError where one fails."""
    place = subjects.place(arguments)
    about = machine.describe()
    cells: list[ParityCell] = []
    with tempfile.TemporaryDirectory() as folder, steps() as progress:
        for index, (kind, specimen) in enumerate(_chosen(arguments)):
            progress(specimen.architecture)
            checkpoint = kind.write(Path(folder, f"checkpoint-{index}"), specimen.architecture, **specimen.config)
            engine = Path(folder, f"engine-{index}")
            variant = specimen.options.variant
            export(str(checkpoint), engine, variant=variant, max_seconds=20, precisions=arguments.precisions)
            comparison = Comparison(kind, specimen, checkpoint, engine, place, arguments)
            cells += [comparison.cell(precision, progress) for precision in arguments.precisions]
    return GpuParity(
        run=console.describe_run("every family", 0, arguments, about),
        device=subjects.describe(place),
        cells=tuple(cells),
    )


def _chosen(arguments: argparse.Namespace) -> Iterator[tuple[Kind, Specimen]]:
    for name in arguments.families:
        kind = kinds()[name]
        for _, specimen in specimens(kind) if arguments.all else specimens(kind)[:1]:
            yield kind, specimen


class Comparison:
    """One engine against what torch computes for each clip alone."""

    def __init__(
        self, kind: Kind, specimen: Specimen, checkpoint: Path, engine: Path, place: str, arguments: argparse.Namespace
    ) -> None:
        self._kind, self._specimen, self._folder, self._place = kind, specimen, engine, place
        resolved = checkpoints.resolve(str(checkpoint))
        exportable = families.build(resolved, specimen.options)
        manifest = Engine(engine).manifest
        seconds = [subjects.fitting(manifest, length) for length in arguments.lengths]
        self._clips = [
            models.clips(1, length, manifest.sample_rate, arguments.seed + index)[0]
            for index, length in enumerate(seconds)
        ]
        self._truths = [exportable.reference(clip) for clip in self._clips]
        torch_side = TorchEncoder(resolved, place, "fp32")
        self._on_device = [torch_side(torch_side.features([clip]))[0] for clip in self._clips]

    def cell(self, precision: Precision, progress: Callable[[str], None]) -> ParityCell:
        """Compare one form; one that does not run here has infinite errors."""
        progress(f"{self._specimen.architecture}, {precision}")
        failure = ""
        try:
            golden, errors, elsewhere = self._compare(precision)
        except Exception as problem:  # of whatever library: the other forms are still to be seen
            failure = first_line(problem)
            golden, errors, elsewhere = math.inf, (math.inf,) * 4, 0
        alone, on_device, batch, equal = errors
        return ParityCell(
            family=self._kind.name,
            architecture=self._specimen.architecture,
            form=f"onnxruntime/{precision}",
            golden=golden,
            on_cpu=alone,
            on_device=on_device,
            batch=batch,
            equal_rows=equal,
            bound=POLICY[precision],
            elsewhere=elsewhere,
            failure=failure,
        )

    def _compare(self, precision: Precision) -> tuple[float, tuple[float, ...], int]:
        """Return the error on the golden clips, the others as `_errors` does, and the nodes that run elsewhere."""
        engine = subjects.open_form(self._folder, self._place, precision)
        opened = {graph.name: engine.open_graph(graph) for graph in engine.form.graphs}
        golden = max(check.error for _, checks in opened.values() for check in checks)
        errors = self._errors(engine, opened[engine.full_graph.name][0])
        return golden, errors, _elsewhere(self._folder / engine.full_graph.file, self._place)

    def _errors(self, engine: Engine, session: Session) -> tuple[float, ...]:
        """Return the largest errors: alone on the CPU's truth and the device's, in a batch, and between equal rows."""
        outputs = [engine.manifest.output(name) for name in engine.full_graph.outputs]
        alone = [run_batch(session, [clip], outputs)[0] for clip in self._clips]
        mixed: Sequence[Clip] = [*self._clips, *reversed(self._clips)]  # each clip twice, at different places
        rows = run_batch(session, mixed, outputs, padding=NAN)
        count = len(self._clips)
        first, second = rows[:count], rows[: count - 1 : -1]
        on_device = (error(row["embeddings"], truth) for row, truth in zip(alone, self._on_device, strict=True))
        return (_worst(alone, self._truths), max(on_device), _worst(first, alone), _worst(first, second))


def _worst(rows: Sequence[Row], truths: Sequence[Row]) -> float:
    """Return the largest error of any output that there is on both sides."""
    return max(
        error(np.asarray(row[name]), truth[name])
        for row, truth in zip(rows, truths, strict=True)
        for name in row.keys() & truth.keys()
    )


def _elsewhere(path: Path, place: str) -> int:
    """Return how many nodes of a graph do not run on the device: those that compute shapes, and should be no others."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    session = onnxruntime.InferenceSession(str(path), options, providers=PROVIDERS[place])
    parts = session.get_provider_graph_assignment_info()
    return sum(len(part.get_nodes()) for part in parts if part.ep_name != PROVIDERS[place][0])
