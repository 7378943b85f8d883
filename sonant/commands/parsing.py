"""What the subcommands share: their parser, the types of their arguments, the way they fail."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

NEEDS_SERVE = "pip install 'sonant[serve]'"
NEEDS_EXPORT = "pip install 'sonant[export,serve]'"


class Parser(argparse.ArgumentParser):
    """The parser of one subcommand. `fill` adds those of its arguments that only an import can tell.

    It is called when the subcommand is used: `sonant --help` imports nothing heavy.
    """

    fill: Callable[[Parser], None] | None = None

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """Add what is missing, then parse."""
        if self.fill is not None:
            fill, self.fill = self.fill, None
            fill(self)
        return super().parse_known_args(args, namespace)


Commands: TypeAlias = "argparse._SubParsersAction[Parser]"


def threads(text: str) -> int:
    """Read a number of threads."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of threads, 0 (the default) or more")
    return int(text)


def seconds(text: str) -> float:
    """Read a number of seconds."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return number


def fail(error: object, status: int = 1) -> int:
    """Say on standard error what went wrong, a line each; return `status`."""
    for line in str(error).splitlines():
        print(f"sonant: {line}", file=sys.stderr)
    return status
