"""`sonant export`: a Hugging Face checkpoint -> an engine."""

from __future__ import annotations

import argparse
from pathlib import Path

from sonant.commands.parsing import NEEDS_EXPORT, Commands, fail, seconds


def add(commands: Commands) -> None:
    """Declare the command."""
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
    parser.add_argument("--max-seconds", type=seconds, default=60.0, help="longest clip that it takes (default: 60)")
    parser.add_argument(
        "--precision",
        type=_names,
        default=("fp32",),
        metavar="NAME,NAME",
        help="of fp32, fp16, bf16, int8 (default: fp32, which is always there)",
    )
    parser.add_argument(
        "--runtimes",
        type=_names,
        default=("onnxruntime",),
        metavar="NAME,NAME",
        help="what the graphs are for, of onnxruntime, openvino (default: onnxruntime)",
    )
    parser.add_argument(
        "--calibrate", type=Path, metavar="FOLDER", help="audio on which the lower precisions are measured"
    )
    parser.add_argument("--force", action="store_true", help="replace an engine that is there")
    parser.set_defaults(run=_run, needs=NEEDS_EXPORT)


def _run(arguments: argparse.Namespace) -> int:
    from engines.errors import EngineError
    from export.errors import ExportError
    from export.exporter import export
    from export.outputs import DEFAULT_OUTPUTS
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
                precisions=arguments.precision,
                runtimes=arguments.runtimes,
                calibrate=arguments.calibrate,
                force=arguments.force,
                progress=progress,
            )
    except (ExportError, EngineError) as error:
        return fail(error)
    print_checks([check for checks in engine.checks.values() for check in checks])
    for output, difference in engine.manifest.variant_difference.items():
        print(f"The variant {engine.manifest.variant} is another model: its {output} differs by {difference:.2g}.")
    print(f"Wrote {engine.folder}. Serve it: sonant serve --models {engine.folder.parent}")
    return 0


def _layers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of layers such as 4,8") from None


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))
