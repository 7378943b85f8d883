"""The command line: `sonant bench peers engines | servers`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from benchmarks import console
from benchmarks.peers import engines
from benchmarks.peers.servers import command as servers

SCENARIOS = {"engines": engines, "servers": servers}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="sonant bench peers", description="What users would pick instead.")
    scenarios = parser.add_subparsers(dest="scenario", required=True, metavar="SCENARIO")
    for name, module in SCENARIOS.items():
        assert module.__doc__ is not None  # noqa: S101  # it is what --help shows
        one = scenarios.add_parser(name, help=module.__doc__.strip().splitlines()[0], allow_abbrev=False)
        module.add_options(one)
        one.add_argument("--quick", action="store_true", help="a tiny model, and little of it: shows that it runs")
        one.set_defaults(measure=module.measure, parser=one, instead=module.QUICK)
    arguments = parser.parse_args(argv)
    if arguments.quick:
        arguments.parser.set_defaults(**arguments.instead)
        arguments = parser.parse_args(argv)
    return console.main(arguments.measure, arguments)
