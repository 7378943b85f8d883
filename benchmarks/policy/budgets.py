"""How clips are put into batches: budget against padding, batch size and goodput: `sonant bench policy`.

The server's scheduler runs as it is, on an engine that only costs time, in a time of its own: the figures are those of
the policy alone, and the same on every machine.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks import console, machine
from benchmarks.policy.virtual import Backlog, FakeEngine, Loop, Ran, run, scheduling_in
from benchmarks.records.policy import Policy, PolicyCell
from server.scheduling.batches import Batch, Room, form_batch
from server.scheduling.jobs import JobT
from server.scheduling.limits import Limits
from server.settings import Settings

# About what an encoder of base size costs on a GPU: launching its kernels, and 1 ms for a second of audio.
FIXED_SECONDS, SECONDS_PER_SECOND = 0.010, 0.001
SHORTEST, LONGEST = 1.0, 20.0  # seconds; the lengths of clips are uniform between them
BUDGETS = (10.0, 20.0, 40.0, 80.0, 160.0)
SONANT, FIFO = "nearest in length", "first in, first out"


def fifo(waiting: Sequence[JobT], room: Room) -> list[JobT]:
    """Take the oldest in their order until the next would exceed the budget."""
    taken, batch = [waiting[0]], Batch.of(waiting[:1])
    for job in waiting[1:]:
        batch.add(job)
        if batch.padded > room.padded_samples:
            break
        taken.append(job)
    return taken


POLICIES: dict[str, Callable[..., list[JobT]]] = {SONANT: form_batch, FIFO: fifo}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="sonant bench policy", description="The batching policy next to first in, first out."
    )
    parser.add_argument("--budgets", type=console.numbers(float), default=BUDGETS, help="of a batch, in padded seconds")
    parser.add_argument("--waiting", type=console.positive, default=64, help="clips in the queue at all times")
    parser.add_argument("--batches", type=console.positive, default=500, help="that are formed for each figure")
    parser.add_argument("--seed", type=int, default=0, help="of the lengths")
    parser.add_argument("--output", type=Path, help="write the result as JSON, such as benchmarks/results/policy.json")
    parser.set_defaults(threads=1)
    arguments = parser.parse_args(argv)
    return console.main(measure, arguments)


def measure(arguments: argparse.Namespace) -> Policy:
    """Simulate every budget with both policies."""
    cells = tuple(
        simulate(policy, budget, arguments.waiting, arguments.batches, arguments.seed)
        for budget in arguments.budgets
        for policy in POLICIES
    )
    host = machine.describe()
    return Policy(
        run=console.describe_run("none", 0, arguments, host),
        fixed_ms=FIXED_SECONDS * 1e3,
        ms_per_second=SECONDS_PER_SECOND * 1e3,
        lengths=(SHORTEST, LONGEST),
        waiting=arguments.waiting,
        max_padding=Settings().max_padding,
        cells=cells,
    )


def simulate(policy: str, budget: float, waiting: int, batches: int, seed: int) -> PolicyCell:
    """Run so many batches of at most `budget` padded seconds."""
    backlog, seconds = let_run(policy, budget, waiting, batches, seed)
    ran = backlog.engine.ran[:batches]
    audio, padded = (sum(values) for values in zip(*((sum(one.lengths), one.padded) for one in ran), strict=True))
    return PolicyCell(
        policy=policy,
        budget=budget,
        clips=sum(len(one.lengths) for one in ran) / len(ran),
        padding=1 - audio / padded,
        goodput=audio / seconds,
        longest_wait=max(late(backlog.places, ran)),
    )


def let_run(policy: str, budget: float, waiting: int, batches: int, seed: int) -> tuple[Backlog, float]:
    """Let the scheduler form so many batches; return all that happened, and the seconds that it took."""
    engine = FakeEngine(FIXED_SECONDS, SECONDS_PER_SECOND)
    limits = Limits(
        queue_seconds=math.inf,
        batch_seconds=budget,
        max_padding=Settings().max_padding,
        live_beams=1,
        fixed_seconds=FIXED_SECONDS,
        seconds_per_second=SECONDS_PER_SECOND,
    )
    loop = Loop()
    backlog = Backlog(engine, limits, waiting, uniform(seed))
    with scheduling_in(loop, engine, POLICIES[policy]):
        return backlog, run(loop, backlog.run(batches))


def uniform(seed: int) -> Iterator[float]:
    """Yield the lengths of clips, in seconds."""
    generator = np.random.default_rng(seed)
    while True:
        yield float(generator.uniform(SHORTEST, LONGEST))


def late(places: Sequence[tuple[int, int]], ran: Sequence[Ran]) -> Iterator[float]:
    """Yield for each clip that ran the batches before its own, over the clips that were before it: at most 1.

    Those that were before it, and the batch that ran when it came, have a batch each in the worst case.
    """
    for index, batch in enumerate(ran):
        for number in batch.numbers:
            so_far, before = places[number]
            yield (index - so_far) / (before + 1)


if __name__ == "__main__":
    sys.exit(main())
