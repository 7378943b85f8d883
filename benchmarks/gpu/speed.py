"""Latency and throughput, batch x length, beside torch eager and torch.compile in the same run."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import console, machine, models
from benchmarks.gpu import subjects
from benchmarks.gpu.subjects import TorchEncoder
from benchmarks.interleave import interleave
from benchmarks.recipes import RECIPES
from benchmarks.records.gpu import GpuSpeed, SpeedCell
from benchmarks.stats import Timing
from engines.batch import Clip
from engines.engine import Engine
from engines.errors import EngineError
from engines.manifest import Manifest, Precision
from engines.runtimes import first_line
from engines.verify import error
from sonant.terminal import steps

DRY_RUN = {
    "model": "tiny",
    "precisions": ("fp32",),
    "torch_precision": "fp32",
    "lengths": (0.5, 1.0),
    "batches": (1, 2),
    "seconds": 0.0,
    "compile": False,
    "matrix": 128,
}
ROUNDS = 5
Embeddings = list[NDArray[np.float32]]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this scenario."""
    parser.add_argument("--model", choices=sorted(RECIPES), default="hubert-large", help="true size, random weights")
    parser.add_argument(
        "--precisions", type=console.numbers(str), default=subjects.PRECISIONS, metavar="NAME,NAME", help="of engines"
    )
    parser.add_argument("--torch-precision", choices=subjects.PRECISIONS, default="fp16", help="of torch")
    parser.add_argument("--lengths", type=console.numbers(float), default=(1.0, 5.0, 10.0, 30.0), help="in seconds")
    parser.add_argument("--batches", type=console.numbers(console.positive), default=(1, 8, 32), help="clips")
    parser.add_argument("--seconds", type=float, default=2.0, help="time to spend on each cell")
    parser.add_argument("--no-compile", dest="compile", action="store_false", help="leave torch.compile out")
    parser.add_argument("--matrix", type=console.positive, default=subjects.MATRIX, help="size of the product")


def measure(arguments: argparse.Namespace) -> GpuSpeed:
    """Measure every cell."""
    place = subjects.place(arguments)
    about = machine.describe()
    with steps() as progress:
        folder = subjects.prepare(arguments.model, arguments.precisions, arguments.cache, progress)
        checkpoint = subjects.checkpoint_of(arguments.model, arguments.cache)
        contestants = Contestants(arguments, place)
        progress("Loading the contestants")
        for precision in arguments.precisions:
            contestants.add(f"sonant {precision}", precision, partial(_engine, folder, place, precision))
        torch_precision = arguments.torch_precision
        eager = TorchEncoder(checkpoint, place, torch_precision)
        contestants.add(f"torch eager {torch_precision}", torch_precision, lambda: partial(_torch, eager))
        if arguments.compile:
            compiled = TorchEncoder(checkpoint, place, torch_precision, compiled=True)
            contestants.add(f"torch compile {torch_precision}", torch_precision, lambda: partial(_torch, compiled))
        progress("Matrix rates")
        rates = {each: subjects.matrix_rate(place, each, arguments.matrix) for each in contestants.precisions}
    manifest = Manifest.read(folder)
    sizes = [(length, batch) for length in arguments.lengths for batch in arguments.batches]
    cells: list[SpeedCell] = []
    with console.progress_bar(len(sizes)) as show:
        for index, (length, batch) in enumerate(sizes):
            seconds = subjects.fitting(manifest, length)
            clips = models.clips(batch, seconds, manifest.sample_rate, arguments.seed)
            doing = console.Doing(show, f"{seconds:g} s, batch {batch}", index)
            operations = batch * eager.operations(eager.features(clips[:1]))
            cells += contestants.cells(clips, seconds, operations, rates, doing)
    return GpuSpeed(
        run=console.describe_run(arguments.model, manifest.parameters, arguments, about),
        device=subjects.describe(place),
        matrix_rates=rates,
        refused=contestants.refused,
        cells=tuple(cells),
    )


Side = Callable[[Sequence[Clip]], Callable[[], Embeddings]]  # clips -> what runs them


def _engine(folder: Path, place: str, precision: Precision) -> Side:
    engine = subjects.open_form(folder, place, precision)
    engine.load_for(["embeddings"])
    return partial(_run, engine)


def _run(engine: Engine, clips: Sequence[Clip]) -> Callable[[], Embeddings]:
    return lambda: [row["embeddings"] for row in engine.run(clips, ["embeddings"])]


def _torch(encoder: TorchEncoder, clips: Sequence[Clip]) -> Callable[[], Embeddings]:
    return partial(encoder, encoder.features(clips))


@dataclass(frozen=True)
class First:
    """The first run of a contestant on some clips."""

    run: Callable[[], Embeddings]
    embeddings: Embeddings
    seconds: float


class Contestants:
    """All that is timed on the same clips."""

    def __init__(self, arguments: argparse.Namespace, place: str) -> None:
        self.refused: dict[str, str] = {}
        self._seconds, self._place = arguments.seconds, place
        self._sides: dict[str, tuple[Precision, Side]] = {}

    @property
    def precisions(self) -> list[Precision]:
        """Those of the contestants."""
        return sorted({precision for precision, _ in self._sides.values()})

    def add(self, name: str, precision: Precision, make: Callable[[], Side]) -> None:
        """Add one; where it cannot run here, it is told why."""
        try:
            self._sides[name] = precision, make()
        except EngineError as problem:
            self.refused[name] = str(problem)

    def cells(
        self,
        clips: Sequence[Clip],
        seconds: float,
        operations: int,
        rates: dict[Precision, float],
        doing: console.Doing,
    ) -> list[SpeedCell]:
        """Time all that can run on `clips`; what cannot, such as for want of memory, is told."""
        firsts = self._firsts(clips, seconds)
        found = {name: first.embeddings for name, first in firsts.items()}
        truth = found.get("sonant fp32") or next(iter(found.values()), [])
        times = interleave({name: first.run for name, first in firsts.items()}, self._seconds, ROUNDS, doing.tick)
        cells = []
        for name, taken in times.items():
            timing = Timing.of(taken)
            median = timing.median_ms / 1e3
            cells.append(
                SpeedCell(
                    contestant=name,
                    seconds=seconds,
                    batch=len(clips),
                    first_ms=firsts[name].seconds * 1e3,
                    time=timing,
                    rtfx=seconds * len(clips) / median,
                    share=operations / median / rates[self._sides[name][0]],
                    error=max(error(row, other) for row, other in zip(found[name], truth, strict=True)),
                )
            )
        return cells

    def _firsts(self, clips: Sequence[Clip], seconds: float) -> dict[str, First]:
        """Run each once."""
        firsts: dict[str, First] = {}
        for name, (_, side) in self._sides.items():
            try:
                run = side(clips)
                begun = time.perf_counter()
                embeddings = run()
                firsts[name] = First(run, embeddings, time.perf_counter() - begun)
            except Exception as problem:  # torch's and the runtimes' exceptions share no other base class
                self.refused[f"{name} on {len(clips)} x {seconds:g} s"] = first_line(problem)
        return firsts
