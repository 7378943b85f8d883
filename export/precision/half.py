"""Modules whose products run in half precision, with everything that half precision would spoil left in fp32.

One table for all families. Products (linear layers, convolutions, attention) hold half weights, take what comes in half
and give half. A residual stream is fp32, as is everything that is added to it. All else that has no parts, norms and
their statistics and the front end above all, computes in fp32 and gives back the type that it was given, so that the
large arrays between two convolutions, or around the activation of a feed-forward, are half in memory.

Wrapped modules must not be copied: the copies would compute with the weights of the original.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers.activations import GELUActivation

from engines.manifest import Precision
from export.attention import Attend
from export.decoders.step import SharedVocabulary
from export.exportable import Exportable
from export.feed_forward import FeedForward
from export.speech.convolutions import ConvLayer, MaskedGroupNorm, NormalizedConv
from export.speech.transformer import Transformer
from export.usm.attention import LocalAttention
from export.usm.conformer import Clamp, ConformerBlock

HALVES: dict[Precision, torch.dtype] = {"fp16": torch.float16, "bf16": torch.bfloat16}
# What runs in half, its own parameters included.
PRODUCTS = (nn.Linear, nn.Conv1d, nn.Conv2d, SharedVocabulary, LocalAttention, Attend)
# What no type spoils: it computes in that which comes. Other activations are made of several operators.
ANY = (GELUActivation, nn.GELU, nn.ReLU, nn.SiLU, Clamp)
# Where half frames enter an fp32 stream.
STREAMS = (Transformer, ConformerBlock)


def in_half(exportable: Exportable, dtype: torch.dtype, kept: Collection[str] = ()) -> Exportable:
    """Return `exportable` with modules that compute in `dtype`, from fp32 to fp32; what is in `kept` stays fp32.

    `kept` names modules as `parts` does. Tensors that stay as they are share the memory of the given ones.
    """
    whole = parts(exportable)
    shared: dict[int, Any] = {id(tensor): tensor for tensor in (*whole.parameters(), *whole.buffers())}
    whole = copy.deepcopy(whole, shared).float()  # a front end may have been in fp64
    for module in list(whole.modules()):
        if isinstance(module, FeedForward):
            module.merge()
        if isinstance(module, Attend):
            module.standard = True
    kept = {*kept, *_front(whole)}
    for name, module in list(whole.named_modules()):
        _convert(module, dtype, any(f"{name}.".startswith(f"{each}.") for each in kept))
    for module in whole.children():
        _wrap(module, torch.float32, lambda given: torch.float32)
    decoder = exportable.decoder
    return replace(
        exportable,
        module=whole["encoder"].eval(),
        decoder=decoder and replace(decoder, step=whole["decoder"].eval()),
    )


def parts(exportable: Exportable) -> nn.ModuleDict:
    """Return the modules of `exportable`, `encoder` and `decoder`, which begin the names of all that is in them."""
    decoder = {"decoder": exportable.decoder.step} if exportable.decoder else {}
    return nn.ModuleDict({"encoder": exportable.module, **decoder})


def units(whole: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield what has a type of its own in `whole`, with its name; a feed-forward counts as one."""
    feed_forward = "-"
    for name, module in whole.named_modules():
        if name.startswith(f"{feed_forward}."):
            continue
        if isinstance(module, FeedForward):
            feed_forward = name
        if isinstance(module, (*PRODUCTS, FeedForward)) or not any(module.children()):
            yield name, module


def _front(whole: nn.Module) -> Iterator[str]:
    """Yield the name of each convolution over the waveform behind which a norm takes the mean over time away.

    Beside a large mean, half precision would lose all that is faint.
    """
    for name, module in whole.named_modules():
        if isinstance(module, ConvLayer) and isinstance(module.layer_norm, MaskedGroupNorm):
            yield f"{name}.conv"


def _convert(module: nn.Module, dtype: torch.dtype, kept: bool) -> None:
    """Make `module` compute in the type that is right for its kind, whatever type comes."""
    half = torch.float32 if kept else dtype
    if isinstance(module, PRODUCTS):
        for name, parameter in list(module.named_parameters(recurse=False)):
            setattr(module, name, nn.Parameter(parameter.detach().to(half)))
        _wrap(module, half)
    elif isinstance(module, STREAMS):
        _wrap(module, torch.float32)
    elif isinstance(module, (MaskedGroupNorm, NormalizedConv)):
        _wrap(module, torch.float32, lambda given: half)
    elif not (isinstance(module, ANY) or any(module.children())):
        _wrap(module, torch.float32, lambda given: given if given.is_floating_point and not kept else torch.float32)


def _wrap(module: nn.Module, inside: torch.dtype, outside: Callable[[torch.dtype], torch.dtype] | None = None) -> None:
    """Let `module` compute in `inside`, and give what `outside` makes of the type of its first argument."""
    forward = module.forward

    @functools.wraps(forward)
    def run(*arguments: Any) -> Any:
        result = forward(*_cast(arguments, inside))
        return _cast(result, outside(arguments[0].dtype)) if outside else result

    module.forward = run


def _cast(values: Any, dtype: torch.dtype) -> Any:
    """Return `values` with every floating-point tensor in `dtype`; a tuple or a list of them too."""
    if isinstance(values, (tuple, list)):
        return type(values)(_cast(each, dtype) for each in values)
    return values.to(dtype) if isinstance(values, Tensor) and values.is_floating_point() else values
