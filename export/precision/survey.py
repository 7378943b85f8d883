"""The largest values in an encoder, and what fp16 could not hold of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from engines.batch import Clip
from export.attention import Attend
from export.errors import ExportError
from export.exportable import Exportable
from export.feed_forward import FeedForward
from export.precision.half import PRODUCTS, parts, units
from export.precision.session import run_modules

# A layer of which a value comes this near to fp16's largest, on the clips at hand, is kept in fp32: other clips are
# louder, by some bits, in some layer.
MARGIN = 8.0
HELD = float(torch.finfo(torch.float16).max) / MARGIN

Seen = Callable[[str, nn.Module, Any, Any], None]


def overflowing(exportable: Exportable, clips: Sequence[Clip]) -> dict[str, float]:
    """Return the largest absolute value of each layer of `parts(exportable)` that may not fit fp16.

    What comes out counts, of a product also what goes in and its weights, of attention the scores too.
    """
    largest: dict[str, float] = {}

    def see(name: str, module: nn.Module, given: Any, result: Any) -> None:
        values = _tensors(result)
        if isinstance(module, Attend):
            query, key = (x.transpose(1, 2) for x in given[:2])
            values += [*given[:3], query @ key.transpose(2, 3)]  # not the bias of masked keys, which is to be large
        elif isinstance(module, (*PRODUCTS, FeedForward)):
            values += [*_tensors(given), *(module.parameters() if name not in largest else ())]
        largest[name] = max([largest.get(name, 0.0), *(float(x.abs().max()) for x in values if x.numel())])

    _watch(exportable, clips, see)
    return {name: value for name, value in largest.items() if not value <= HELD}


def check(exportable: Exportable, clips: Sequence[Clip], precision: str) -> None:
    """Raise ExportError where a layer of the typed `exportable` gives a value that is no number, with its name."""

    def see(name: str, module: nn.Module, given: Any, result: Any) -> None:
        if not all(bool(torch.isfinite(x).all()) for x in _tensors(result)):
            raise ExportError(
                f"{precision}: {name} overflows, and cannot be kept in fp32 alone; leave {precision} out of --precision"
            )

    _watch(exportable, clips, see)


def _watch(exportable: Exportable, clips: Sequence[Clip], see: Seen) -> None:
    """Run each clip alone, and a text for it if there is a decoder; `see` gets what every unit is given and gives."""
    handles = [module.register_forward_hook(partial(see, name)) for name, module in units(parts(exportable))]
    try:
        for clip in clips:
            run_modules(exportable, clip)
    finally:
        for handle in handles:
            handle.remove()


def _tensors(values: Any) -> list[Tensor]:
    """Return the floating-point tensors among `values`, which may be tuples of them."""
    if isinstance(values, Tensor):
        return [values] if values.is_floating_point() else []
    return [tensor for each in values for tensor in _tensors(each)] if isinstance(values, (tuple, list)) else []
