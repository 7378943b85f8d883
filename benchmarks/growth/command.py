"""How time and memory grow: `sonant bench growth lengths | batches | models | clients | all`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial

from benchmarks import console
from benchmarks.growth.axes import AXES
from benchmarks.load import subjects
from benchmarks.records.growth import Axis, Growth

ALL = "all"
UNASKED: tuple[Axis, ...] = ("lengths", "models")  # there is no one length of clips


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status, that of the first axis that fails."""
    parser = argparse.ArgumentParser(
        prog="sonant bench growth",
        description="How time and memory grow.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("axis", choices=(*AXES, ALL), help="what grows; of all, the axis is added to --output's name")
    subjects.add_options(parser, subjects.DEMO[:1])
    decimals, counts = console.numbers(float), console.numbers(console.positive)
    parser.add_argument(
        "--lengths", type=decimals, default=(1, 3, 10, 30, 60, 300, 900, 3600), help="clips, in seconds"
    )
    parser.add_argument("--batches", type=counts, default=(1, 2, 4, 8, 16, 32), help="clips in a batch")
    parser.add_argument("--models", type=counts, default=(1, 2, 4, 8, 16), help="copies of the engine")
    parser.add_argument("--clients", type=counts, default=(1, 2, 4, 8, 16, 32, 64, 128, 256), help="who ask at a time")
    parser.add_argument("--length", type=float, default=2.0, help="of the clips of batches and clients, in seconds")
    parser.add_argument("--seconds", type=float, default=5.0, help="to spend on each size, at least")
    parser.add_argument("--rounds", type=console.positive, default=5, help="of each size, at least; starts of servers")
    parser.add_argument("--quick", action="store_true", help="few sizes, once each: shows that it runs")
    arguments = parser.parse_args(argv)
    if arguments.quick:
        few = {"lengths": (1.0, 2.0, 70.0), "batches": (1, 2, 3), "models": (1, 2), "clients": (1, 2, 4)}
        parser.set_defaults(length=0.5, seconds=0.0, rounds=1, **few)
        arguments = parser.parse_args(argv)
    chosen: list[Axis] = list(AXES) if arguments.axis == ALL else [arguments.axis]
    return max(console.main(partial(measure, axis), _for(arguments, axis)) for axis in chosen)


def measure(axis: Axis, arguments: argparse.Namespace) -> Growth:
    """Measure every engine along one axis."""
    found, host = subjects.prepare(arguments)
    lines = []
    with console.progress_bar(len(found)) as progress:
        for index, subject in enumerate(found):
            lines += AXES[axis](subject, arguments, console.Doing(progress, f"{axis}: {subject.name}", index))
    return Growth(
        run=subjects.describe(found, arguments, host),
        axis=axis,
        seconds=None if axis in UNASKED else arguments.length,
        lines=tuple(lines),
    )


def _for(arguments: argparse.Namespace, axis: Axis) -> argparse.Namespace:
    """Return the arguments of one axis, with a file of its own."""
    if arguments.axis != ALL or not arguments.output:
        return arguments
    output = arguments.output.with_name(f"{arguments.output.stem}-{axis}{arguments.output.suffix}")
    return argparse.Namespace(**vars(arguments) | {"output": output})
