"""The command line: `sonant bench load closed | open | throughput | overhead | overload | soak`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from benchmarks import console
from benchmarks.load import closed_loop, open_loop, overhead, overload, soak, throughput

SCENARIOS = {
    "closed": closed_loop,
    "open": open_loop,
    "throughput": throughput,
    "overhead": overhead,
    "overload": overload,
    "soak": soak,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="sonant bench load", description="A server under load.")
    scenarios = parser.add_subparsers(dest="scenario", required=True, metavar="SCENARIO")
    for name, module in SCENARIOS.items():
        assert module.__doc__ is not None  # noqa: S101  # it is what --help shows
        one = scenarios.add_parser(name, help=module.__doc__.strip().splitlines()[0], allow_abbrev=False)
        module.add_options(one)
        one.add_argument("--quick", action="store_true", help="a tiny engine and little of all: shows that it runs")
        one.set_defaults(measure=module.measure)
    arguments = parser.parse_args(argv)
    if arguments.quick:
        scenarios.choices[arguments.scenario].set_defaults(**SCENARIOS[arguments.scenario].QUICK)
        arguments = parser.parse_args(argv)
    return console.main(arguments.measure, arguments)
