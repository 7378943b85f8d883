"""`sonant bench`: the benchmarks of a checkout."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
from typing import Any

from sonant.commands.parsing import Commands, Parser, fail

NEEDS = "run it from a checkout, with pip install --editable '.[dev]'"


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "bench", help="measure engines, the server and what stands in for them (from a checkout)"
    )
    parser.fill = _fill
    parser.set_defaults(run=_run, needs=NEEDS)


def _fill(parser: Parser) -> None:
    """Declare what can be measured: the options of each are its own."""
    found = _benchmarks()
    listed = "" if found is None else "\n".join(f"  {name:<12} {one.help}" for name, one in found.COMMANDS.items())
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = f"Measure. `sonant bench NAME --help` has the options of each.\n\n{listed}"
    parser.add_argument("benchmark", metavar="NAME", nargs="?", help="one of these")
    parser.add_argument("options", nargs=argparse.REMAINDER, help="its own")


def _run(arguments: argparse.Namespace) -> int:
    found = _benchmarks()
    if found is None:
        return fail(f"the benchmarks are not part of what is installed: {NEEDS}")
    if arguments.benchmark not in found.COMMANDS:
        return fail(f"bench: choose one of {', '.join(found.COMMANDS)}", status=2)
    return int(found.run(arguments.benchmark, arguments.options))


def _benchmarks() -> Any:
    """Return the table of benchmarks; None where only the package is installed, which has none."""
    # By name: what is installed must not depend on what is not.
    return importlib.import_module("benchmarks.commands") if importlib.util.find_spec("benchmarks") else None
