"""One precision of one model: the contestants in processes of their own, timed in turn on the same clips."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import console
from benchmarks.interleave import Tick, interleave
from benchmarks.peers.process import ContestantError, Process
from benchmarks.peers.roster import Entrant
from benchmarks.peers.scripts.protocol import Clip, Rows
from benchmarks.records.peers import CLOSE, PADDED, TRUTH, Group, Precision, Turn
from benchmarks.stats import Estimate, PairedRatio, Times, Timing
from engines.verify import error
from export.parity import cosine

FEWEST = 3  # rounds: a median of fewer is none
LOADED_WITHIN_SECONDS = 900.0  # with what is exported, converted and quantised the first time
RUN_WITHIN_SECONDS = 900.0  # with what is compiled the first time
# What takes so many times as long as transformers is timed once: the others need not wait for more.
TOO_SLOW = 4.0


@dataclass(frozen=True)
class Case:
    """Clips of a cell."""

    label: str
    clips: tuple[Clip, ...]
    path: Path  # where the contestants read them
    audio_seconds: float


@dataclass(frozen=True)
class Pace:
    """How long cells are measured."""

    seconds: float  # at least
    rounds: int  # at least
    limit: float  # seconds beyond which there are fewer rounds, but FEWEST
    seed: int


@dataclass
class Side:
    """A contestant that is loaded, running clips one after the other or as one padded batch."""

    entrant: Entrant
    process: Process
    padded: bool
    problem: str = ""  # why it can go on no longer

    @property
    def name(self) -> str:
        """What it is called in tables."""
        return self.entrant.name + PADDED * self.padded

    def run(self, case: Case, keep: Path | None = None) -> float:
        """Return the seconds that the clips take; NaN where it fails, now or before."""
        if self.problem:
            return math.nan
        try:
            return self.process.run(case.path, self.padded, RUN_WITHIN_SECONDS, keep)
        except ContestantError as failure:
            self.problem = str(failure)
            return math.nan


@dataclass(frozen=True)
class Seen:
    """What a contestant computed, and how long it took when it was warm."""

    seconds: float
    error: float
    cosine: float


def load(
    entrants: Sequence[Entrant], start: Callable[[Entrant], Process], stack: ExitStack, progress: Callable[[str], None]
) -> tuple[dict[str, Process], dict[str, str]]:
    """Return the processes of those that could be loaded, by name, and why others could not."""
    processes: dict[str, Process] = {}
    problems: dict[str, str] = {}
    for entrant in entrants:
        progress(f"Loading {entrant.name}")
        process = stack.enter_context(start(entrant))
        try:
            process.ready(LOADED_WITHIN_SECONDS)
        except ContestantError as problem:
            process.close()
            problems[entrant.name] = str(problem)
        else:
            processes[entrant.name] = process
    return processes, problems


def measure(
    case: Case, precision: Precision, sides: Sequence[Side], known: str | None, pace: Pace, work: Path, tick: Tick
) -> Group:
    """Time all sides on the clips of a case; the first is transformers, which has the truth.

    The ratios are against `known`, the best fp32 peer, or where that is still to be found, the best of these. Raises
    WrongResultError where an exact form of ours computes something else, ValueError where transformers fails.
    """
    seen = _warm_up(case, sides, work)
    slow = {name for name, one in seen.items() if one.seconds > TOO_SLOW * seen[TRUTH].seconds}
    fast = [side for side in sides if side.name in seen and side.name not in slow]
    possible = pace.limit / sum(seen[side.name].seconds for side in fast)
    rounds = pace.rounds if possible >= pace.rounds else max(FEWEST, int(possible))
    contestants = {side.name: partial(side.run, case) for side in fast}
    times = interleave(contestants, pace.seconds, rounds, tick, timed=lambda run: run())
    times = {name: taken for name, taken in times.items() if np.isfinite(taken).all()}
    peers = [side.name for side in fast if not side.entrant.is_ours and side.name in times]
    reference = known if known in times else _fastest(peers, times, lambda name: seen[name].error <= console.BOUND)
    own = [side.name for side in fast if side.entrant.precision == precision and side.name in peers]
    rival = _fastest(own, times, lambda name: seen[name].cosine >= CLOSE)
    if reference is None:
        raise ValueError(f"transformers failed at {case.label}: {sides[0].problem}")
    turns = []
    for index, name in enumerate(seen):
        taken = times.get(name, np.array([seen[name].seconds]))
        if name in times or name in slow:
            turns.append(_turn(name, taken, times[reference], times.get(rival or ""), seen[name], (pace.seed, index)))
    return Group(
        clips=case.label,
        audio_seconds=case.audio_seconds,
        precision=precision,
        reference=reference,
        turns=tuple(turns),
        failed={side.name: side.problem for side in sides if side.problem},
    )


def _warm_up(case: Case, sides: Sequence[Side], work: Path) -> dict[str, Seen]:
    """Run every side twice, and look at what it computes; leave out those that fail."""
    seen: dict[str, Seen] = {}
    truth: Rows = []
    for side in sides:
        kept = work / "rows.npz"
        side.run(case, kept)
        seconds = side.run(case)
        if side.problem:
            if not truth:
                raise ValueError(f"transformers failed at {case.label}: {side.problem}")
            continue
        with np.load(kept) as file:
            rows: Rows = [file[name] for name in file.files]
        truth = truth or rows
        pairs = [(_cut(row, true), true) for row, true in zip(rows, truth, strict=True)]
        worst = max(error(row, true) for row, true in pairs)
        if side.entrant.is_ours and side.entrant.precision == "fp32":
            console.check(f"the embeddings of {side.name} differ from transformers at {case.label}", worst)
        least = min(cosine(row, true) if row.shape == true.shape else -1.0 for row, true in pairs)
        seen[side.name] = Seen(seconds, worst, least)
    return seen


def _cut(row: NDArray[np.float32], truth: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the frames of a row of a padded batch that are the clip's own."""
    return row[: truth.shape[0]]


def _fastest(names: Sequence[str], times: Mapping[str, Times], is_right: Callable[[str], bool]) -> str | None:
    return min(filter(is_right, names), key=lambda name: float(np.median(times[name])), default=None)


def _turn(name: str, times: Times, reference: Times, rival: Times | None, seen: Seen, seed: tuple[int, int]) -> Turn:
    """Return the figures of one contestant; one that was timed once is compared with the median of the others."""
    return Turn(
        name=name,
        rounds=times.size,
        time=Timing.of(times),
        ratio=_ratio(reference, times, seed),
        rival=None if rival is None else _ratio(rival, times, seed),
        error=seen.error,
        cosine=seen.cosine,
    )


def _ratio(numerator: Times, denominator: Times, seed: tuple[int, int]) -> Estimate:
    return PairedRatio(numerator, denominator, seed).estimate
