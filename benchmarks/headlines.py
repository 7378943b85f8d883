"""What the authors of the families say of their models' speed, measured: `sonant bench headlines`.

The two models of a headline are timed in turn, in Sonant and in transformers: a ratio is that of times side by side.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import console, machine, models
from benchmarks.engines.eager import Eager
from benchmarks.engines.opened import embeddings
from benchmarks.interleave import interleave, warm_up
from benchmarks.models import Subject
from benchmarks.recipes import RECIPES
from benchmarks.records.headlines import Headline, Headlines, Side
from benchmarks.stats import Estimate, PairedRatio, Timing
from engines.verify import error
from sonant.terminal import steps

SEW = "SEW's paper (https://arxiv.org/abs/2109.06870) says 1.9x faster inference than wav2vec 2.0"

SONANT, TRANSFORMERS = "sonant ", "transformers "
SLOW, FAST = "slow", "fast"


@dataclass(frozen=True)
class Pair:
    """Two models, or one with clips of two lengths; the first takes longer."""

    what: str
    claim: str
    slow: tuple[str, float]  # a recipe, and the seconds of a clip
    fast: tuple[str, float]


PAIRS = (
    Pair("wav2vec 2.0 base / SEW small", f"{SEW}; like parameters", ("wav2vec2-base", 10.0), ("sew-small", 10.0)),
    Pair("wav2vec 2.0 base / SEW mid", "twice the layers, half as wide", ("wav2vec2-base", 10.0), ("sew-mid", 10.0)),
    Pair("HuBERT large / base", "time follows the parameters", ("hubert-large", 10.0), ("hubert-base", 10.0)),
    Pair(
        "AST, clips of 10 s / 1 s",
        "it fills every clip up to its longest, so that a short one takes as long",
        ("ast-base", 10.0),
        ("ast-base", 1.0),
    ),
    Pair(
        "AST cropped, 10 s / 1 s",
        "it computes what the clip fills, and is another model: transformers has none",
        ("ast-base-cropped", 10.0),
        ("ast-base-cropped", 1.0),
    ),
)
QUICK = (Pair("tiny, 1 s / 0.5 s", "none", ("tiny", 1.0), ("tiny", 0.5)),)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="sonant bench headlines",
        description="What the authors of the families say of their models' speed, measured.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--threads", type=console.positive, default=1, help="of every side")
    parser.add_argument("--seconds", type=float, default=20.0, help="to spend on each pair, at least")
    parser.add_argument("--rounds", type=console.positive, default=7, help="of each pair, at least")
    parser.add_argument("--seed", type=int, default=0, help="of the clips and of the bootstrap")
    parser.add_argument("--cache", type=Path, default=models.default_cache(), help="where engines stay")
    parser.add_argument("--output", type=Path, help="such as benchmarks/results/headlines.json")
    parser.add_argument("--quick", action="store_true", help="a tiny model and a few rounds: shows that it runs")
    arguments = parser.parse_args(argv)
    if arguments.quick:
        parser.set_defaults(seconds=0.0, rounds=2)
        arguments = parser.parse_args(argv)
    return console.main(measure, arguments)


def measure(arguments: argparse.Namespace) -> Headlines:
    """Measure every pair; WrongResultError where an engine differs from transformers."""
    host = machine.describe()
    torch.set_num_threads(arguments.threads)
    pairs = QUICK if arguments.quick else PAIRS
    names = dict.fromkeys(name for pair in pairs for name, _ in (pair.slow, pair.fast))
    with steps() as progress:
        found = {name: models.prepare(name, None, (), arguments.cache, progress) for name in names}
    cells = []
    with console.progress_bar(len(pairs)) as progress:
        for index, pair in enumerate(pairs):
            cells.append(_measure(pair, found, arguments, console.Doing(progress, pair.what, index)))
    parameters = sum(subject.manifest.parameters for subject in found.values())
    return Headlines(run=console.describe_run(", ".join(found), parameters, arguments, host), cells=tuple(cells))


def _measure(pair: Pair, found: Mapping[str, Subject], arguments: argparse.Namespace, doing: console.Doing) -> Headline:
    sides = {SLOW: pair.slow, FAST: pair.fast}
    runs: dict[str, Callable[[], Sequence[NDArray[np.float32]]]] = {}
    for place, (name, seconds) in sides.items():
        subject = found[name]
        clips = models.clips(1, seconds, subject.manifest.sample_rate, arguments.seed)
        runs[SONANT + place] = partial(embeddings, subject.engine(arguments.threads), clips)
        if RECIPES[name].variant is None:  # transformers has the model itself only
            runs[TRANSFORMERS + place] = partial(Eager(subject.checkpoint), clips)
    results = warm_up(runs)
    compared = [place for place in sides if TRANSFORMERS + place in runs]
    errors = [error(results[SONANT + place][0], results[TRANSFORMERS + place][0]) for place in compared]
    times = interleave(runs, arguments.seconds, arguments.rounds, doing.tick)
    both = len(compared) == len(sides)

    def ratio(who: str) -> Estimate:
        return PairedRatio(times[who + SLOW], times[who + FAST], (arguments.seed, len(who))).estimate

    def side(place: str) -> Side:
        name, seconds = sides[place]
        theirs = times.get(TRANSFORMERS + place)
        return Side(
            model=name,
            like=RECIPES[name].like,
            parameters=found[name].manifest.parameters,
            seconds=seconds,
            sonant=Timing.of(times[SONANT + place]),
            transformers=None if theirs is None else Timing.of(theirs),
        )

    return Headline(
        what=pair.what,
        claim=pair.claim,
        rounds=times[SONANT + SLOW].size,
        slow=side(SLOW),
        fast=side(FAST),
        sonant=ratio(SONANT),
        transformers=ratio(TRANSFORMERS) if both else None,
        error=console.check(f"{pair.what}: the embeddings", max(errors)) if errors else None,
    )
