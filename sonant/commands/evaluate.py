"""`sonant evaluate`: what each form of an engine is worth on clips with known answers."""

from __future__ import annotations

import argparse
from pathlib import Path

from sonant.commands.parsing import Commands, fail, threads

NEEDS = "pip install 'sonant[serve,evaluate]'"
# Of the server's settings, those that are flags here too.
SETTINGS = ("device", "threads", "workers", "cache")


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser("evaluate", help="measure what each precision costs, on clips with known answers")
    parser.add_argument("engine", type=Path, help="the engine's folder")
    parser.add_argument(
        "data",
        type=Path,
        help='lines of JSON, {"audio": a path from there, "text": ...}, or "label", or "group" and perhaps "speaker"; '
        "or a folder with one such file",
    )
    parser.add_argument(
        "--forms",
        type=lambda text: tuple(text.split(",")),
        default=(),
        metavar="NAME,NAME",
        help="such as onnxruntime/int8 (default: all that can be used here); they are compared with onnxruntime/fp32",
    )
    parser.add_argument("--write", action="store_true", help="keep what is measured in engine.json, for /v1/models")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), help="what the engine runs on (default: auto)")
    parser.add_argument(
        "--threads", type=threads, help="inside one operation (default: as calibrated, or all cores but one)"
    )
    parser.add_argument("--workers", type=threads, help="batches at a time (default: as calibrated)")
    parser.add_argument("--cache", type=Path, help="where `sonant calibrate` keeps what it measures")
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    parser.set_defaults(run=_run, needs=NEEDS)


def _run(arguments: argparse.Namespace) -> int:
    from engines.errors import EngineError
    from sonant.evaluation.data import read
    from sonant.evaluation.evaluate import evaluate, keep
    from sonant.runs.errors import RunError, UsageError
    from sonant.runs.progress import Display, display
    from sonant.terminal import print_evaluated

    def show(doing: str, files: int) -> Display:
        shown = display(files, quiet=arguments.quiet)
        if not arguments.quiet:
            shown.say(doing)
        return shown

    flags = {name: getattr(arguments, name) for name in SETTINGS}
    flags = {name: value for name, value in flags.items() if value is not None}
    try:
        found = list(evaluate(arguments.engine, read(arguments.data), arguments.forms, flags, show))
        if arguments.write:
            keep(arguments.engine, found)
    except UsageError as error:
        return fail(error, status=2)
    except (RunError, EngineError, OSError) as error:
        return fail(error)
    print_evaluated(found)
    return 0
