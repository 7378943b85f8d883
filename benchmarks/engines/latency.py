"""Engine latency by clip length and batch against transformers eager: `sonant bench latency`.

Both sides begin with waveforms and end with embeddings in numpy, feature extraction included, on the same number of
threads. They are timed in turn, and a ratio is that of two times taken side by side.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from benchmarks import console, models
from benchmarks.engines.eager import Eager
from benchmarks.interleave import interleave, warm_up
from benchmarks.records.speed import Latency, LatencyCell
from benchmarks.stats import PairedRatio, Timing, geometric_mean
from engines.batch import Clip
from engines.engine import Engine
from engines.manifest import Manifest
from engines.verify import error

SONANT, TRANSFORMERS = "sonant", "transformers"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = console.options(
        "latency", "Engine latency against transformers eager, fp32, on the same threads.", seconds=20.0
    )
    parser.add_argument(
        "--lengths", type=console.numbers(float), default=(1.0, 3.0, 5.0, 10.0, 20.0, 30.0), help="clips, in seconds"
    )
    parser.add_argument("--batches", type=console.numbers(console.positive), default=(1, 4), help="clips in a batch")
    parser.add_argument(
        "--batch-seconds", type=float, default=40.0, help="leave out batches of several clips with more audio than this"
    )
    return console.main(measure, console.parse(parser, argv, {"lengths": (0.5, 1.0), "batches": (1, 2)}))


def measure(arguments: argparse.Namespace) -> Latency:
    """Measure every cell; WrongResultError where the two sides differ."""
    subject, run = console.prepare(arguments)
    sizes = sizes_of(arguments, subject.manifest)
    engine, eager = subject.engine(arguments.threads), Eager(subject.checkpoint)
    cells: list[LatencyCell] = []
    ratios: list[PairedRatio] = []
    with console.progress_bar(len(sizes)) as progress:
        for seconds, batch in sizes:
            clips = models.clips(batch, seconds, subject.manifest.sample_rate, arguments.seed)
            contestants = {SONANT: partial(embeddings, engine, clips), TRANSFORMERS: partial(eager, clips)}
            doing = console.Doing(progress, f"{seconds:g} s, batch {batch}", len(cells))
            results = warm_up(contestants)
            worst = max(error(a, b) for a, b in zip(results[SONANT], results[TRANSFORMERS], strict=True))
            console.check(f"the embeddings differ from those of transformers at {doing.label}", worst)
            times = interleave(contestants, arguments.seconds, arguments.rounds, doing.tick)
            ratio = PairedRatio(times[TRANSFORMERS], times[SONANT], (arguments.seed, len(cells)))
            ratios.append(ratio)
            cells.append(
                LatencyCell(
                    seconds=seconds,
                    batch=batch,
                    pairs=times[SONANT].size,
                    sonant=Timing.of(times[SONANT]),
                    transformers=Timing.of(times[TRANSFORMERS]),
                    ratio=ratio.estimate,
                    error=worst,
                )
            )
    return Latency(run=run, attention=eager.attention, cells=tuple(cells), geometric_mean=geometric_mean(ratios))


def sizes_of(arguments: argparse.Namespace, manifest: Manifest) -> list[tuple[float, int]]:
    """Return (seconds, batch) of each cell; ValueError where the engine does not take such clips."""
    shortest, longest = manifest.seconds
    for seconds in arguments.lengths:
        if not shortest <= seconds <= longest:
            raise ValueError(f"a clip of {seconds:g} s: the engine takes {shortest:g} to {longest:g} s")
    sizes = itertools.product(arguments.batches, arguments.lengths)
    kept = [(seconds, batch) for batch, seconds in sizes if batch == 1 or batch * seconds <= arguments.batch_seconds]
    if not kept:
        raise ValueError("nothing to measure: every batch has more audio than --batch-seconds")
    return kept


def embeddings(engine: Engine, clips: Sequence[Clip]) -> list[NDArray[np.float32]]:
    """Return the embeddings [frames, hidden] of each clip."""
    return [row["embeddings"] for row in engine.run(clips, ["embeddings"])]
