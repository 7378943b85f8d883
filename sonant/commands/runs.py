"""What `sonant transcribe`, `encode` and `classify` share: a task over many files."""

from __future__ import annotations

import argparse
import os
from functools import partial
from pathlib import Path
from typing import Literal

from sonant.commands import forms
from sonant.commands.parsing import Commands, Parser, fail, threads

Task = Literal["transcribe", "encode", "classify"]

NEEDS = "pip install 'sonant[serve]', or 'sonant[client]' to ask a server with --url"
KEY_VARIABLE = "SONANT_API_KEY"
# Requests at a time: enough for the batches of a server, and few beside those that others send.
CONNECTIONS = 16


def declare(commands: Commands, task: Task, help_: str) -> None:
    """Declare the command of `task`."""
    parser = commands.add_parser(task, help=help_, allow_abbrev=False)
    parser.fill = partial(_fill, task)
    parser.set_defaults(run=partial(_run, task), needs=NEEDS)


def _fill(task: Task, parser: Parser) -> None:
    try:
        from sonant.runs import flags
        from sonant.runs.requests import SCHEMAS
    except ImportError as error:
        parser.exit(1, f"sonant: {error}: {NEEDS}\n")
    parser.add_argument(
        "paths", nargs="+", metavar="PATH", help="a file, a folder, a pattern in quotes, or - for a pipe"
    )
    parser.add_argument("--model", help="an engine's folder, or a name in --models (default: the task's default)")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="PATH",
        help="a folder for a file each, in the tree of the inputs; or one file, such as results.jsonl"
        f"{' or vectors.npz' if task == 'encode' else ''} (default: lines of JSON on standard output). What is there "
        "already is not done again",
    )
    parser.add_argument("--beside", action="store_true", help="a file each, beside its audio")
    parser.add_argument("--overwrite", action="store_true", help="do all again, also what is there already")
    parser.add_argument("--quiet", action="store_true", help="say only what goes wrong, and how it ended")
    if task == "encode":
        parser.add_argument("--format", choices=("npz", "safetensors"), default="npz", help="of files (default: npz)")
    flags.add(parser.add_argument_group("options of the task"), SCHEMAS[task], without=frozenset({"model"}))
    _add_places(parser)


def _add_places(parser: Parser) -> None:
    here = parser.add_argument_group("in this process")
    here.add_argument("--models", type=Path, help="the folder of engines (default: models, or SONANT_MODELS)")
    forms.add(here, several=True)
    forms.add_max_error(here)
    here.add_argument(
        "--threads", type=threads, help="inside one operation (default: as calibrated, or all cores but one)"
    )
    here.add_argument(
        "--workers", type=threads, help="batches at a time (default: as calibrated, or as many as there are cores for)"
    )
    here.add_argument("--decoders", type=threads, help="processes that decode: a file that crashes one fails alone")
    here.add_argument("--cache", type=Path, help="where `sonant calibrate` keeps what it measures")
    there = parser.add_argument_group("by a server")
    there.add_argument("--url", help="such as http://127.0.0.1:8000: the server does it")
    there.add_argument("--key", help=f"a key of the server; better {KEY_VARIABLE}, which other users cannot see")
    there.add_argument(
        "--connections", type=threads, default=CONNECTIONS, help=f"requests at a time (default: {CONNECTIONS})"
    )


def _run(task: Task, arguments: argparse.Namespace) -> int:
    from sonant.runs.errors import UsageError
    from sonant.runs.execution import execute, leave
    from sonant.runs.requests import Request

    try:
        request = Request.of(task, arguments, os.environ.get(KEY_VARIABLE))
    except UsageError as error:
        return fail(error, status=2)
    ended = execute(request)
    fail(ended.message, ended.status)
    if ended.is_stopped:
        leave(ended.status)
    return ended.status
