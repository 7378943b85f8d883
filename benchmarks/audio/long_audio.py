"""Long recordings: what windows do to the results, and what hours cost the server.

`sonant bench long-audio windows | recording`. The audio is made of the demo's sentences.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from benchmarks import console
from benchmarks.audio import recording, window_effect

KINDS = {"windows": window_effect, "recording": recording}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="sonant bench long-audio", description=__doc__)
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    for name, module in KINDS.items():
        assert module.__doc__ is not None  # noqa: S101  # it is what --help shows
        one = kinds.add_parser(name, help=module.__doc__)
        module.add_options(one)
        one.set_defaults(measure=module.measure)
    arguments = parser.parse_args(argv)
    return console.main(arguments.measure, arguments)
