"""`sonant bench gpu parity|speed|shapes|load`; benchmarks/gpu.sh runs all of it on a GPU host."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks import console, models
from benchmarks.gpu import load, parity, shapes, speed

SCENARIOS = {"parity": parity, "speed": speed, "shapes": shapes, "load": load}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="sonant bench gpu", description="Measure engines on a GPU, through ONNX Runtime."
    )
    scenarios = parser.add_subparsers(dest="scenario", required=True)
    for name, scenario in SCENARIOS.items():
        own = scenarios.add_parser(name, help=scenario.__doc__, description=scenario.__doc__)
        own.add_argument("--dry-run", action="store_true", help="tiny sizes, on the CPU: shows that it runs")
        own.add_argument("--seed", type=int, default=0, help="of the clips")
        own.add_argument("--cache", type=Path, default=models.default_cache(), help="where what is made stays")
        own.add_argument("--output", type=Path, help="write the result, such as benchmarks/results/gpu-NAME.json")
        scenario.add_options(own)
        own.set_defaults(measure=scenario.measure, small=scenario.DRY_RUN, threads=1)
    arguments = parser.parse_args(argv)
    if arguments.dry_run:
        vars(arguments).update(arguments.small)
    return console.main(arguments.measure, arguments)
