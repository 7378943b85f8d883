"""The console command `sonant`. Each subcommand imports what it needs only when it runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import version

from sonant.commands import (
    bench,
    build,
    calibrate,
    classify,
    doctor,
    encode,
    evaluate,
    export,
    key,
    serve,
    transcribe,
    verify,
)
from sonant.commands.parsing import Parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status: 0 done, 1 failed, 2 wrong usage."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except ImportError as error:
        print(f"sonant: {error}: {arguments.needs}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sonant", description="Audio encoders as exact, self-verifying engines.")
    parser.add_argument("--version", action="version", version=version("sonant"))
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    for module in (export, build, verify, evaluate, calibrate, serve, transcribe, encode, classify, key, doctor, bench):
        module.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
