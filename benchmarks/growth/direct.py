"""An engine in this process: clips of one size after the other, in turn."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks import console, models
from benchmarks.engines import memory
from benchmarks.engines.opened import embeddings
from benchmarks.growth.fit import fitted
from benchmarks.interleave import interleave, warm_up
from benchmarks.load.subjects import Subject
from benchmarks.records.growth import GrowthLine, GrowthPoint
from engines.batch import Clip
from engines.engine import Engine
from engines.verify import error

MIB_PER_GIB = 1024.0
Size = tuple[float, int]  # seconds, clips in a batch


def line(
    subject: Subject, name: str, sizes: Mapping[float, Size], arguments: argparse.Namespace, doing: console.Doing
) -> GrowthLine:
    """Time the embeddings of clips of each of `sizes`, by what stands on the axis.

    WrongResultError where a batch does not give what its clips give alone.
    """
    engine = subject.engine(arguments.threads)
    rate = subject.manifest.sample_rate
    clips = {x: models.clips(count, seconds, rate, arguments.seed) for x, (seconds, count) in sizes.items()}
    for each in clips.values():
        check(engine, each)
    runs = {str(x): partial(embeddings, engine, each) for x, each in clips.items()}
    warm_up(runs)
    times = interleave(runs, arguments.seconds * len(sizes), arguments.rounds, doing.tick)
    form = engine.graph_for(["embeddings"]).form
    peaks = memory.peaks(["engine", str(Path(subject.folder)), form], [*sizes.values()], arguments.threads)
    points = tuple(
        GrowthPoint(
            x=x,
            rounds=times[str(x)].size,
            median_ms=1e3 * float(np.median(times[str(x)])),
            p95_ms=1e3 * float(np.percentile(times[str(x)], 95)),
            audio_per_second=seconds * count / float(np.median(times[str(x)])),
            memory_mib=MIB_PER_GIB * peaks.get((seconds, count), float("nan")),
        )
        for x, (seconds, count) in sizes.items()
    )
    return fitted(name, points[0].memory_mib, points)


def check(engine: Engine, clips: Sequence[Clip]) -> None:
    """Compare the last clip of a batch with itself alone."""
    if len(clips) > 1:
        alone, together = embeddings(engine, clips[-1:])[0], embeddings(engine, clips)[-1]
        console.check(f"a clip in a batch of {len(clips)} differs from itself alone", error(together, alone))
