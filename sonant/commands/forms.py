"""The flags that say where an engine runs, and in which of its forms."""

from __future__ import annotations

import argparse
from dataclasses import fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engines.runtimes import RuntimeOptions

# What engines.runtimes says, which is imported only where it is used.
DEVICES = ("auto", "cpu", "cuda")
RUNTIMES = ("auto", "onnxruntime", "openvino", "tensorrt")
SEARCHES = ("auto", "heuristic", "default", "exhaustive")
PRECISIONS = ("auto", "fp32", "fp16", "bf16", "int8")


def add(parser: argparse._ActionsContainer, *, several: bool = False) -> None:
    """Declare them; None where one is not given. `several` GPUs are `device_ids`."""
    parser.add_argument("--device", choices=DEVICES, help="what the engine runs on (default: auto)")
    which = "the GPU, of those that are visible (default: 0)"
    if several:
        help_ = f"{which}; repeat it for several"
        parser.add_argument("--device-id", dest="device_ids", action="append", type=number, metavar="N", help=help_)
    else:
        parser.add_argument("--device-id", type=number, metavar="N", help=which)
    parser.add_argument("--runtime", choices=RUNTIMES, help="what runs its graphs (default: auto)")
    parser.add_argument("--precision", choices=PRECISIONS, help="what they compute in (default: auto)")


def add_max_error(parser: argparse._ActionsContainer) -> None:
    """Declare the flag for what is chosen by auto."""
    parser.add_argument(
        "--max-error",
        type=error,
        metavar="E",
        help="the largest error of a precision that auto may choose (default: 1e-4, which is only fp32)",
    )


def add_gpu(parser: argparse._ActionsContainer) -> None:
    """Declare the flags for what a server may be set to on a GPU."""
    parser.add_argument("--device-bytes", type=number, metavar="N", help="of the GPU's memory, for each graph")
    parser.add_argument("--conv-search", choices=SEARCHES, help="of ONNX Runtime's convolutions (default: auto)")
    parser.add_argument("--cuda-graphs", action=argparse.BooleanOptionalAction, help="of ONNX Runtime (default: not)")


def options(arguments: argparse.Namespace, **others: object) -> RuntimeOptions:
    """Return how to run the engine, as the flags and `others` say."""
    from engines.runtimes import RuntimeOptions

    given = {field.name: getattr(arguments, field.name, None) for field in fields(RuntimeOptions)}
    return RuntimeOptions(**{**{name: value for name, value in given.items() if value is not None}, **others})


def number(text: str) -> int:
    """Read a number of 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number, 0 (the default) or more")
    return int(text)


def error(text: str) -> float:
    """Read an error: a share of the largest value of an output."""
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not an error above 0 and up to 1, such as 0.02")
    return share
