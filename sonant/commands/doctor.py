"""`sonant doctor`: what this host has of all that engines and the server need, and how to mend what is wrong."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from sonant.commands.parsing import NEEDS_SERVE, Commands


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser("doctor", help="say what is wrong with this host, and how to mend it")
    parser.add_argument("engine", type=Path, nargs="*", help="engines to look at (default: those of the server)")
    parser.add_argument("--models", help="the server's folder of engines (default: models, or SONANT_MODELS)")
    parser.add_argument("--config", help="the server's TOML file with settings (default: SONANT_CONFIG)")
    parser.add_argument(
        "--verify", action="store_true", help="also check the hashes of the engines, and replay their golden clips"
    )
    parser.add_argument(
        "--only",
        type=_subjects,
        metavar="SUBJECT,SUBJECT",
        help="of host, clock, packages, gpu, libraries, providers, tensorrt, decoders, server, engines",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object in place of the table")
    parser.set_defaults(run=_run, needs=NEEDS_SERVE)


def _run(arguments: argparse.Namespace) -> int:
    from sonant.doctor.examination import SUBJECTS, examine, is_sound
    from sonant.doctor.report import as_json, as_text, print_tables, summary
    from sonant.doctor.request import Request

    given = {name: value for name in ("models", "config") if (value := getattr(arguments, name)) is not None}
    request = Request(tuple(arguments.engine), given, arguments.verify)
    with _steps() as progress:
        sections = list(examine(request, arguments.only or SUBJECTS, progress))
    if arguments.json:
        print(as_json(sections))
    else:
        try:
            print_tables(sections)
        except ImportError:
            print(as_text(sections))
        print(f"\n{summary(sections)}")
    return 0 if is_sound(sections) else 1


def _steps() -> AbstractContextManager[Callable[[str], None]]:
    """Show on a terminal what is being looked at; without rich, and elsewhere, nothing."""
    silent: AbstractContextManager[Callable[[str], None]] = nullcontext(lambda step: None)
    if not sys.stderr.isatty():
        return silent
    try:
        from sonant.terminal import steps
    except ImportError:
        return silent
    return steps()


def _subjects(text: str) -> tuple[str, ...]:
    from sonant.doctor.examination import SUBJECTS

    chosen = tuple(text.split(","))
    for name in chosen:
        if name not in SUBJECTS:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(SUBJECTS)}")
    return chosen
