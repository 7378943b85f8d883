"""So many clients, each of which waits for its answer: goodput and latency of any server, or of engines served here."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from benchmarks import console
from benchmarks.load import sweep, targets
from benchmarks.load.sweep import Asking
from benchmarks.records.serving import ClosedLoop

QUICK = {**targets.QUICK, "clients": (1, 3)}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this scenario."""
    targets.add_options(parser)
    parser.add_argument(
        "--clients", type=console.numbers(console.positive), default=(1, 4, 16, 64), help="one after the other"
    )


def measure(arguments: argparse.Namespace) -> ClosedLoop:
    """Measure it; ValueError where a request that is alone has no result."""
    places, run = targets.prepare(arguments)
    begun = ClosedLoop.model_validate({"run": run, "cells": (), **sweep.described(arguments)})

    def grow(asking: Asking, found: ClosedLoop) -> Iterator[ClosedLoop]:
        for clients in arguments.clients:
            if clients not in [cell.load for cell in found.of(asking.place.name)]:
                found = found.plus(asking.place.name, clients, asking.closed(clients))
                yield found

    return sweep.over(places, begun, arguments, len(arguments.clients), grow)
