"""Servers of the same work: Sonant, and what users would pick instead, each set up as its own documentation says.

They are started, asked and stopped in turn, round after round, and what they answer is held against transformers on one
unpadded clip. Results are written as they come: the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import console, machine, models
from benchmarks.load import lengths
from benchmarks.peers.servers import contestants
from benchmarks.peers.servers.catalogue import NAMES, OURS, PEERS, SONANT, TRANSFORMERS
from benchmarks.peers.servers.rounds import Rounds
from benchmarks.recipes import RECIPES
from benchmarks.records.peer_servers import PeerServers
from export.parity import LIMITS
from sonant.terminal import steps

LOADS = (lengths.DISTRIBUTIONS["speech"], lengths.DISTRIBUTIONS["mixed"])
QUICK = {
    "model": "tiny",
    "peers": (SONANT, TRANSFORMERS),
    "loads": (lengths.uniform(0.2, 0.6),),
    "clips": 6,
    "clients": 3,
    "rounds": 1,
    "seconds": 0.0,
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this scenario."""
    subject = parser.add_mutually_exclusive_group()
    subject.add_argument("--model", choices=sorted(RECIPES), default="hubert-base", help="true size, random weights")
    subject.add_argument("--checkpoint", help="a checkpoint instead: a folder or a hub id")
    parser.add_argument("--engine", type=Path, help="of it, that Sonant serves (default: one of all forms is exported)")
    said = "; ".join(f"{name}: {peer.about}" for name, peer in PEERS.items())
    parser.add_argument(
        "--peers",
        type=names,
        default=NAMES,
        metavar="NAME,NAME",
        help=f"of {', '.join(OURS)}: Sonant, exact and in its fastest form; {said} (default: all). One that runs "
        "elsewhere, such as Triton, is asked by `sonant bench load closed --url URL --adapter triton`",
    )
    parser.add_argument(
        "--loads",
        type=distributions,
        default=LOADS,
        metavar="NAME,NAME",
        help=f"lengths of the clips, of {', '.join(lengths.DISTRIBUTIONS)} (default: speech,mixed)",
    )
    parser.add_argument("--clips", type=console.positive, default=16, help="that a server is asked in a round")
    parser.add_argument("--clients", type=console.positive, default=8, help="of the closed loop")
    parser.add_argument("--rounds", type=console.positive, default=3, help="of the closed loop, if there is the time")
    parser.add_argument(
        "--minutes", type=float, default=35.0, help="after which no further round, or open loop, begins"
    )
    parser.add_argument("--seconds", type=float, default=20.0, help="of each open loop; 0: there is none")
    parser.add_argument("--share", type=float, default=0.7, help="of the goodput clip by clip, offered in an open loop")
    parser.add_argument("--objective", type=float, default=30.0, help="seconds in which it wants its answers")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds, of a request in the closed loop")
    parser.add_argument("--start-seconds", type=float, default=300.0, help="until a server must have answered")
    parser.add_argument(
        "--max-error", type=float, default=LIMITS["int8"].error, help="of the form that Sonant may choose where it may"
    )
    parser.add_argument("--threads", type=console.positive, default=1, help="of every side")
    parser.add_argument("--seed", type=int, default=0, help="of the clips, of when they are sent, and of the bootstrap")
    parser.add_argument("--cache", type=Path, default=models.default_cache(), help="where environments and models stay")
    parser.add_argument("--output", type=Path, help="write the result as JSON, such as benchmarks/results/NAME.json")
    parser.add_argument("--anew", action="store_true", help="measure again what is there, such as after a change")


def measure(arguments: argparse.Namespace) -> PeerServers:
    """Measure what is missing of the result; ExportError, EngineError or ValueError where nothing can be measured."""
    with terminable():
        host = machine.describe()
        with steps() as progress:
            subject = contestants.subject(arguments, progress)
            run = console.describe_run(subject.checkpoint.name, subject.manifest.parameters, arguments, host)
            rounds = Rounds.prepared(subject, run, arguments, progress)
        return rounds.measured()


@contextmanager
def terminable() -> Iterator[None]:
    """End as by sys.exit where the process is told to, so that servers are ended too."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def names(text: str) -> tuple[str, ...]:
    """Parse names of servers, in the order of the catalogue; for argparse."""
    wanted = text.split(",")
    if unknown := sorted(set(wanted) - set(NAMES)):
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: choose from {', '.join(NAMES)}")
    return tuple(name for name in NAMES if name in wanted)


def distributions(text: str) -> tuple[lengths.Distribution, ...]:
    """Parse names of distributions of lengths; for argparse."""
    return tuple(lengths.parse(name) for name in text.split(","))
