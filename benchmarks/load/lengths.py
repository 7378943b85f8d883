"""How long clips are: distributions by name, seeded, and clips of such lengths."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from benchmarks import models
from benchmarks.machine import ROOT
from engines.batch import Clip

Lengths = NDArray[np.float64]  # [count], seconds
# LibriSpeech's dev-clean and test-clean have 5.4 h each in 2,703 and 2,620 utterances (Panayotov et al. 2015, and the
# files): 7.2 and 7.4 s in the mean, most of them short, with a long tail. A log-normal distribution is as skewed; with
# these parameters and cut to SPEECH_RANGE its mean is 7.2 s.
SPEECH_MEDIAN, SPEECH_SIGMA, SPEECH_RANGE = 6.2, 0.65, (2.0, 20.0)
COMMAND_RANGE = (1.0, 3.0)
CONTENT = ("noise", "speech")
LONG_SECONDS, LONG_SHARE = 60.0, 0.05  # a third of the audio


@dataclass(frozen=True)
class Distribution:
    """Lengths of one kind: what they are, for people, and how they are drawn."""

    name: str
    about: str
    draw: Callable[[int, np.random.Generator], Lengths]


def uniform(low: float, high: float) -> Distribution:
    """Return all lengths between two of them alike."""
    return Distribution(
        f"{low:g},{high:g}", f"{low:g} to {high:g} s", lambda count, generator: generator.uniform(low, high, count)
    )


def _speech(count: int, generator: np.random.Generator) -> Lengths:
    low, high = SPEECH_RANGE
    drawn = np.empty(0)
    while drawn.size < count:
        more = SPEECH_MEDIAN * np.exp(SPEECH_SIGMA * generator.standard_normal(count))
        drawn = np.append(drawn, more[(low <= more) & (more <= high)])
    return drawn[:count]


def _mixed(count: int, generator: np.random.Generator) -> Lengths:
    drawn = _speech(count, generator)
    drawn[generator.choice(count, max(1, round(LONG_SHARE * count)), replace=False)] = LONG_SECONDS
    return drawn


SPEECH_ABOUT = f"{SPEECH_RANGE[0]:g} to {SPEECH_RANGE[1]:g} s, log-normal around {SPEECH_MEDIAN:g} s as utterances are"
DISTRIBUTIONS: Mapping[str, Distribution] = {
    one.name: one
    for one in (
        Distribution("commands", f"{COMMAND_RANGE[0]:g} to {COMMAND_RANGE[1]:g} s", uniform(*COMMAND_RANGE).draw),
        Distribution("speech", SPEECH_ABOUT, _speech),
        Distribution("mixed", f"{SPEECH_ABOUT}, and {100 * LONG_SHARE:g} % of {LONG_SECONDS:g} s", _mixed),
    )
}


def parse(text: str) -> Distribution:
    """Return the distribution of this name, or all lengths between A and B of `A,B`; for argparse."""
    if text in DISTRIBUTIONS:
        return DISTRIBUTIONS[text]
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        low = high = 0.0
    if not 0.0 < low <= high:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(DISTRIBUTIONS)} and not A,B in seconds")
    return uniform(low, high)


def clips(
    distribution: Distribution, count: int, sample_rate: int, content: str, seed: int, shortest: float = 0.0
) -> list[Clip]:
    """Return `count` clips, none below `shortest` seconds: `noise`, as time does not depend on it, or `speech`."""
    lengths = np.maximum(distribution.draw(count, np.random.default_rng(seed)), shortest)
    if content == "noise":
        return [models.clips(1, float(length), sample_rate, seed + index)[0] for index, length in enumerate(lengths)]
    spoken = _spoken(sample_rate)
    starts = np.random.default_rng(seed).integers(0, spoken.size, count)
    return [
        spoken.take(range(start, start + round(length * sample_rate)), mode="wrap")
        for start, length in zip(starts, lengths, strict=True)
    ]


def _spoken(sample_rate: int) -> Clip:
    """Return the demo's sentences, one after the other; ValueError where they have another rate."""
    read = [soundfile.read(path, dtype="float32") for path in sorted(Path(ROOT, "demo", "audio").glob("*.flac"))]
    if {rate for _, rate in read} != {sample_rate}:
        raise ValueError(f"the demo's sentences are not of {sample_rate} samples a second: take --content noise")
    return np.concatenate([clip for clip, _ in read])
