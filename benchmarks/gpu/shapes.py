"""First costs: loading, the first run of a shape, and shapes in turn, by the way convolutions are searched."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

import numpy as np

from benchmarks import console, machine, models
from benchmarks.gpu import subjects
from benchmarks.recipes import RECIPES
from benchmarks.records.gpu import GpuShapes, ShapesCell
from engines.batch import Clip
from engines.engine import Engine
from engines.manifest import Manifest
from server.calibration.convolutions import FIRST, OTHERS
from sonant.terminal import steps

DRY_RUN = {"model": "tiny", "precision": "fp32", "shapes": ((1, 0.5), (2, 0.4)), "rounds": 2}
# As a server under load forms them: some thirty seconds of audio in each.
SHAPES = ((1, 30.0), (2, 13.7), (3, 9.6), (4, 7.9), (6, 5.3), (8, 3.7), (12, 2.6), (24, 1.3))


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this scenario."""
    parser.add_argument("--model", choices=sorted(RECIPES), default="hubert-large", help="true size, random weights")
    parser.add_argument("--precision", choices=subjects.PRECISIONS, default="fp16", help="of the engine")
    parser.add_argument("--rounds", type=console.positive, default=5, help="runs of each shape")
    parser.set_defaults(shapes=SHAPES)


def measure(arguments: argparse.Namespace) -> GpuShapes:
    """Measure every way."""
    place = subjects.place(arguments)
    about = machine.describe()
    with steps() as progress:
        precisions = tuple(dict.fromkeys(("fp32", arguments.precision)))
        folder = subjects.prepare(arguments.model, precisions, arguments.cache, progress)
        manifest = Manifest.read(folder)
        shapes = [(rows, subjects.fitting(manifest, seconds)) for rows, seconds in arguments.shapes]
        batches = [models.clips(rows, seconds, manifest.sample_rate, arguments.seed) for rows, seconds in shapes]
        cells = []
        for search in (FIRST, *OTHERS):
            progress(f"{arguments.precision}, {search}")
            begun = time.perf_counter()
            engine = subjects.open_form(folder, place, arguments.precision, conv_search=search)
            engine.load_for(["embeddings"])
            cells.append(_measure(engine, search, time.perf_counter() - begun, batches, arguments.rounds))
            engine.close()
    return GpuShapes(
        run=console.describe_run(arguments.model, manifest.parameters, arguments, about),
        device=subjects.describe(place),
        shapes=tuple(shapes),
        cells=tuple(cells),
    )


def _measure(
    engine: Engine, search: str, load_seconds: float, batches: Sequence[Sequence[Clip]], rounds: int
) -> ShapesCell:
    def run(batch: Sequence[Clip]) -> Callable[[], object]:
        return lambda: engine.run(batch, ["embeddings"])

    first = [_milliseconds(run(batch)) for batch in batches]
    repeated = [np.median([_milliseconds(run(batch)) for _ in range(rounds)]) for batch in batches]
    turns = [[_milliseconds(run(batch)) for batch in batches] for _ in range(rounds)]
    return ShapesCell(
        form=engine.form.name,
        search=search,
        load_seconds=load_seconds,
        first_ms=float(np.median(first)),
        repeated_ms=float(np.mean(repeated)),
        cycled_ms=float(np.mean(np.median(turns, axis=0))),
    )


def _milliseconds(run: Callable[[], object]) -> float:
    begun = time.perf_counter()
    run()
    return (time.perf_counter() - begun) * 1e3
