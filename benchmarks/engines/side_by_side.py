"""The forms of an engine, transformers, and whatever else they are compared with, timed in turn on the same clips."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from benchmarks import console
from benchmarks.engines.eager import Eager
from benchmarks.engines.opened import embeddings
from benchmarks.interleave import interleave, warm_up
from benchmarks.stats import Times
from engines.batch import Clip
from engines.engine import Engine
from engines.manifest import BASE
from engines.verify import error
from export.parity import cosine

TORCH = "torch"
FEWEST = 3  # rounds: a median of fewer is none
EXACT = "/fp32"  # how the names of forms end that must compute what transformers does


@dataclass(frozen=True)
class Compared:
    """What was measured: times by contestant, TORCH among them, and by form how near its embeddings are."""

    times: dict[str, Times]
    errors: dict[str, float]  # the largest of any clip
    cosines: dict[str, float]  # the least


def compare(
    clips: Sequence[Clip],
    engines: Mapping[str, Engine],
    eager: Eager | None,
    arguments: argparse.Namespace,
    doing: console.Doing,
    others: Mapping[str, Callable[[], object]] | None = None,
    limit: float = math.inf,
) -> Compared:
    """Time the embeddings of `clips` in rounds; `others` are timed beside them, whatever they compute.

    Where the rounds would take more than `limit` seconds there are fewer, but `FEWEST`.

    The truth is what transformers computes, and without it what the exact form makes of each clip alone. Raises
    WrongResultError where the embeddings of an exact form are another's.
    """
    contestants: dict[str, Callable[[], Sequence[NDArray[np.float32]]]] = {
        name: partial(embeddings, engine, clips) for name, engine in engines.items()
    }
    if eager is not None:
        contestants = {TORCH: partial(eager, clips), **contestants}
    begin = time.perf_counter()
    results = warm_up(contestants)
    possible = limit / (time.perf_counter() - begin)
    rounds = arguments.rounds if possible >= arguments.rounds else max(FEWEST, int(possible))
    truth = results.pop(TORCH) if eager is not None else [embeddings(engines[BASE], [clip])[0] for clip in clips]
    pairs = {name: list(zip(rows, truth, strict=True)) for name, rows in results.items()}
    errors = {name: max(error(row, true) for row, true in rows) for name, rows in pairs.items()}
    for name, worst in errors.items():
        if name.endswith(EXACT):
            console.check(f"the embeddings of {name} differ from transformers at {doing.label}", worst)
    times = interleave({**contestants, **(others or {})}, arguments.seconds, rounds, doing.tick)
    cosines = {name: min(cosine(row, true) for row, true in rows) for name, rows in pairs.items()}
    return Compared(times, errors, cosines)
