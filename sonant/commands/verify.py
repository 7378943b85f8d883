"""`sonant verify`: the golden clips of an engine, replayed on this host in every form that it can run."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from sonant.commands import forms
from sonant.commands.parsing import NEEDS_EXPORT, NEEDS_SERVE, Commands, fail, threads


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser("verify", help="replay the golden clips of an engine on this host")
    parser.add_argument("engine", type=Path, help="the engine's folder")
    forms.add(parser)
    parser.add_argument(
        "--threads", type=threads, default=0, help="threads inside one operation (default: all physical cores but one)"
    )
    parser.add_argument(
        "--tensorrt",
        action="store_true",
        help="check instead, without TensorRT, whether its parser takes the graphs that `sonant build` starts from",
    )
    parser.set_defaults(run=_run, needs=NEEDS_SERVE)


def _run(arguments: argparse.Namespace) -> int:
    if arguments.tensorrt:
        arguments.needs = NEEDS_EXPORT
        return _check_operators(arguments.engine)
    from engines.engine import Engine
    from engines.errors import EngineError
    from engines.verify import Check, proved
    from sonant.terminal import print_checks

    try:
        engine = Engine(arguments.engine, options=forms.options(arguments, max_error=math.inf))
    except EngineError as error:
        return fail(error)
    graphs: list[list[Check]] = []
    errors: list[EngineError] = []
    for form in engine.forms.usable:
        engine.use(form.name)  # a decoder is led by what its own form starts with
        for graph in form.graphs:
            try:
                graphs.append(engine.open_graph(graph)[1])
            except EngineError as error:
                errors.append(error)
    if graphs:
        print_checks([check for checks in graphs for check in checks])
    for refused in engine.forms.refused:
        print(f"{refused.name} is not run here: {refused.reason}")
    for problem in errors:
        fail(problem)
    return 0 if all(map(proved, graphs)) and not errors else 1


def _check_operators(folder: Path) -> int:
    from engines.errors import EngineError
    from export.tensorrt.operators import check

    try:
        graphs = check(folder)
    except EngineError as error:
        return fail(error)
    if not graphs:
        return fail(f"{folder} has no fp16 or bf16 graph: export it again with --precision fp32,fp16")
    for name, problems in graphs.items():
        print(f"{name}: {'; '.join(problems) or 'TensorRT takes its operators and types'}")
    return 1 if any(graphs.values()) else 0
