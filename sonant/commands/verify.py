"""`sonant verify`: the golden clips of an engine, replayed on this host."""

from __future__ import annotations

import argparse
from pathlib import Path

from sonant.commands.parsing import NEEDS_SERVE, Commands, fail, threads


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser("verify", help="replay the golden clips of an engine on this host")
    parser.add_argument("engine", type=Path, help="the engine's folder")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument(
        "--threads", type=threads, default=0, help="threads inside one operation (default: all physical cores but one)"
    )
    parser.set_defaults(run=_run, needs=NEEDS_SERVE)


def _run(arguments: argparse.Namespace) -> int:
    from engines.engine import Engine
    from engines.errors import EngineError
    from engines.runtimes import RuntimeOptions
    from engines.verify import proved
    from sonant.terminal import print_checks

    try:
        engine = Engine(arguments.engine, options=RuntimeOptions(arguments.device, arguments.threads))
        graphs = [engine.open_graph(graph)[1] for graph in engine.graphs]
    except EngineError as error:
        return fail(error)
    print_checks([check for checks in graphs for check in checks])
    return 0 if all(map(proved, graphs)) else 1
