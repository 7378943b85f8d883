"""The console command `sonant`. Each subcommand imports what it needs only when it runs."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path


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
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_export(commands)
    _add_verify(commands)
    _add_serve(commands)
    return parser


def _add_export(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("export", help="turn a Hugging Face checkpoint into an engine")
    parser.add_argument("checkpoint", help="a folder, or a hub id (HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE apply)")
    parser.add_argument("--output", type=Path, help="the engine's folder (default: models/NAME)")
    parser.add_argument("--revision", help="branch, tag or commit of the hub repository")
    parser.add_argument("--target-lang", help="language of a checkpoint with attention adapters")
    parser.add_argument("--variant", help="a named departure from what transformers computes; never needed")
    parser.add_argument(
        "--head",
        type=Path,
        metavar="FILE",
        help="a classifier for a checkpoint without one: safetensors with weight [classes, hidden] and bias [classes], "
        "applied to the pooled embeddings; metadata: labels (JSON list), problem_type",
    )
    parser.add_argument(
        "--outputs",
        type=_names,
        metavar="NAME,NAME",
        help="what it computes, of embeddings, pooled, logits, hidden_states, attentions (default: all but the last)",
    )
    parser.add_argument(
        "--layers", type=_layers, default=(), metavar="N,N", help="also graphs that stop after N layers"
    )
    parser.add_argument("--max-seconds", type=_seconds, default=60.0, help="longest clip that it takes (default: 60)")
    parser.add_argument("--force", action="store_true", help="replace an engine that is there")
    parser.set_defaults(run=_export, needs="pip install 'sonant[export,serve]'")


def _export(arguments: argparse.Namespace) -> int:
    from engines.errors import EngineError
    from export.errors import ExportError
    from export.exporter import DEFAULT_OUTPUTS, export
    from sonant.terminal import print_checks, steps

    try:
        with steps() as progress:
            engine = export(
                arguments.checkpoint,
                arguments.output,
                revision=arguments.revision,
                target_lang=arguments.target_lang,
                variant=arguments.variant,
                head=arguments.head,
                outputs=arguments.outputs or DEFAULT_OUTPUTS,
                layers=arguments.layers,
                max_seconds=arguments.max_seconds,
                force=arguments.force,
                progress=progress,
            )
    except (ExportError, EngineError) as error:
        return _fail(error)
    print_checks([check for checks in engine.checks.values() for check in checks])
    for output, difference in engine.manifest.variant_difference.items():
        print(f"The variant {engine.manifest.variant} is another model: its {output} differs by {difference:.2g}.")
    print(f"Wrote {engine.folder}. Serve it: sonant serve --models {engine.folder.parent}")
    return 0


def _add_verify(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("verify", help="replay the golden clips of an engine on this host")
    parser.add_argument("engine", type=Path, help="the engine's folder")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--threads", type=_threads, default=0, help="threads inside one operation (default: all cores)")
    parser.set_defaults(run=_verify, needs="pip install 'sonant[serve]'")


def _verify(arguments: argparse.Namespace) -> int:
    from engines.engine import Engine
    from engines.errors import EngineError
    from engines.runtimes import RuntimeOptions
    from engines.verify import proved
    from sonant.terminal import print_checks

    try:
        engine = Engine(arguments.engine, options=RuntimeOptions(arguments.device, arguments.threads))
        graphs = [engine.open_graph(graph)[1] for graph in engine.graphs]
    except EngineError as error:
        return _fail(error)
    print_checks([check for checks in graphs for check in checks])
    return 0 if all(map(proved, graphs)) else 1


def _add_serve(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("serve", help="serve a folder of engines over HTTP")
    parser.add_argument("--models", type=Path, default=None, help="the folder of engines (default: models)")
    parser.add_argument("--host", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on (default: 8000)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--threads", type=_threads, help="threads inside one operation (default: all cores)")
    parser.add_argument(
        "--default", dest="defaults", action="append", type=_default, metavar="TASK=NAME", help="a task's default model"
    )
    parser.set_defaults(run=_serve, needs="pip install 'sonant[serve]'")


def _serve(arguments: argparse.Namespace) -> int:
    from pydantic import ValidationError

    from server.app import run
    from server.settings import Settings

    flags = {name: getattr(arguments, name) for name in ("models", "host", "port", "device", "threads")}
    given = {name: value for name, value in flags.items() if value is not None}
    if arguments.defaults:
        given["defaults"] = dict(arguments.defaults)
    try:
        settings = Settings(**given)
    except ValidationError as error:
        return _fail(error)
    if not settings.models.is_dir():
        return _fail(f"{settings.models} is not a folder: name one that holds engines with --models")
    try:
        run(settings)
    except ValueError as error:
        return _fail(error)
    return 0


def _layers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of layers such as 4,8") from None


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return seconds


def _threads(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of threads, 0 (all cores) or more")
    return int(text)


def _default(text: str) -> tuple[str, str]:
    task, _, name = text.partition("=")
    if not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not TASK=NAME")
    return task, name


def _fail(error: object) -> int:
    print(f"sonant: {error}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
