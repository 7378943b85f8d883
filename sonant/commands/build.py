"""`sonant build`: a TensorRT plan for this host's GPU, from an engine's fp16 or bf16 graph."""

from __future__ import annotations

import argparse
import logging
import os
from pathlib import Path

from sonant.commands.parsing import Commands, fail, seconds

NEEDS = "pip install 'sonant[gpu,tensorrt]'"


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser("build", help="build and verify a TensorRT plan for this host's GPU")
    parser.add_argument("engine", type=Path, help="the engine's folder; it needs a graph of that precision")
    parser.add_argument("--precision", choices=("fp16", "bf16"), default="fp16")
    parser.add_argument(
        "--buckets",
        type=_buckets,
        metavar="S,S",
        help="seconds at which a profile ends (default: 0.5,1,2,4,8,15,30, as far as the engine takes)",
    )
    parser.add_argument("--rows", type=_count, help="clips in the largest batch (default: by the GPU's memory)")
    parser.add_argument(
        "--outputs",
        type=_names,
        default=(),
        metavar="NAME,NAME",
        help="what it computes (default: what its tasks need)",
    )
    parser.add_argument(
        "--workspace", type=_gibibytes, default=0, metavar="GIB", help="memory for one layer beside its tensors"
    )
    parser.add_argument("--level", type=int, choices=range(6), default=3, help="0: quick to build, 5: fast to run")
    parser.add_argument("--timing-cache", type=Path, metavar="FOLDER", help="where times of kernels are kept")
    parser.add_argument("--device-id", type=int, default=0, metavar="N", help="the GPU, of those that are visible")
    parser.add_argument("--verbose", action="store_true", help="show what TensorRT says")
    parser.set_defaults(run=_run, needs=NEEDS)


def _run(arguments: argparse.Namespace) -> int:
    from engines.errors import EngineError
    from export.errors import ExportError
    from export.tensorrt.build import Request, build
    from export.tensorrt.profiles import BUCKETS
    from sonant.terminal import print_checks, steps_and_phases

    if arguments.verbose:
        logging.basicConfig(level=logging.DEBUG)
    caches = arguments.timing_cache or _default_caches()
    request = Request(
        precision=arguments.precision,
        buckets=arguments.buckets or BUCKETS,
        rows=arguments.rows,
        outputs=arguments.outputs,
        workspace=arguments.workspace,
        level=arguments.level,
        timing_cache=lambda version, capability: caches / f"tensorrt-{version}-{capability}.timing",
        device_id=arguments.device_id,
    )
    try:
        with steps_and_phases() as (progress, phases):
            graph, checks = build(arguments.engine, request, progress, phases)
    except (ExportError, EngineError, OSError) as error:
        return fail(error)
    print_checks(checks)
    print(f"Added {graph.name} to {arguments.engine}. Prove it as a server would: sonant verify {arguments.engine}")
    return 0


def _default_caches() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sonant"


def _buckets(text: str) -> tuple[float, ...]:
    return tuple(seconds(part) for part in text.split(","))


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of clips, 1 or more")
    return int(text)


def _gibibytes(text: str) -> int:
    try:
        return int(float(text) * 2**30)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of gibibytes") from None
