"""Requests at random times, whatever becomes of the others: goodput and latency of any server, or of engines here."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Mapping

from benchmarks import console
from benchmarks.load import sweep, targets
from benchmarks.load.sweep import Asking
from benchmarks.records.serving import OpenLoop

SHARES = (0.5, 0.7, 0.9, 1.1)
STEPS = 8  # of a search, at most
PRECISION = 1.05  # it ends as soon as it knows the rate to this factor
QUICK = {**targets.QUICK, "shares": (0.3, 0.6), "clients": 2}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this scenario."""
    targets.add_options(parser)
    rates = parser.add_mutually_exclusive_group()
    rates.add_argument("--rates", type=console.numbers(float), help="requests a second, one rate after the other")
    rates.add_argument(
        "--shares",
        type=console.numbers(float),
        default=SHARES,
        help="the same, as shares of what a closed loop reaches",
    )
    rates.add_argument(
        "--find", action="store_true", help="search the highest rate with p99 within the objective, from there"
    )
    parser.add_argument("--clients", type=console.positive, default=16, help="of that closed loop")


def measure(arguments: argparse.Namespace) -> OpenLoop:
    """Measure it; ValueError where a request that is alone has no result."""
    places, run = targets.prepare(arguments)
    begun = OpenLoop.model_validate(
        {"run": run, "cells": (), "clients": arguments.clients, "capacities": {}, **sweep.described(arguments)}
    )
    count = STEPS if arguments.find else len(arguments.rates or arguments.shares)
    return sweep.over(places, begun, arguments, count, lambda asking, found: _grow(asking, found, arguments))


def _grow(asking: Asking, found: OpenLoop, arguments: argparse.Namespace) -> Iterator[OpenLoop]:
    name = asking.place.name
    if not arguments.rates and name not in found.capacities:
        capacity = asking.closed(arguments.clients).throughput / asking.mean_seconds
        if not capacity:
            raise ValueError(f"{name}: {arguments.clients} clients had no results, so there is no capacity")
        found = found.model_copy(update={"capacities": {**found.capacities, name: capacity}})
        yield found
    capacity = found.capacities.get(name, math.nan)
    rates = arguments.rates or [share * capacity for share in arguments.shares]
    while True:
        tried = {cell.load: cell.figures.meets for cell in found.of(name)}
        rate = search(tried, capacity) if arguments.find else next((one for one in rates if one not in tried), None)
        if rate is None:
            return
        found = found.plus(name, rate, asking.open_(rate))
        yield found


def search(tried: Mapping[float, bool], start: float) -> float | None:
    """Return the rate to try next, None at the end of the search; `tried` says whether the server bears a rate."""
    borne = max((rate for rate, meets in tried.items() if meets), default=0.0)
    too_much = min((rate for rate, meets in tried.items() if not meets and rate > borne), default=math.inf)
    if not tried:
        return start
    if len(tried) == STEPS or too_much <= PRECISION * borne:
        return None
    if not borne:
        return too_much / 2
    return 2 * borne if too_much == math.inf else math.sqrt(borne * too_much)
