"""The modules of an exportable as sessions: what a graph computes before there is a graph, or where none can run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from engines import generation
from engines.batch import INPUTS, Clip, pad
from engines.manifest import Graph
from engines.runtimes import Value
from export.exportable import Decoder, Exportable
from export.graphs import Load
from export.parity import PARITY_TOKENS
from export.precision.half import HALVES

PRODUCTS = {F.linear, F.conv1d, F.conv2d, torch.matmul, Tensor.matmul, Tensor.__matmul__}


@dataclass(frozen=True)
class Held:
    """A tensor in host memory."""

    tensor: Tensor

    def numpy(self) -> NDArray[Any]:
        """Return its array."""
        return self.tensor.numpy()

    def select(self, rows: NDArray[np.int64], frames: int) -> Held:
        """Return [rows, :, :frames]."""
        return Held(self.tensor[torch.from_numpy(rows), :, :frames])


class ModuleSession:
    """A module behind the protocol of a runtime's session."""

    device = "cpu"

    def __init__(self, module: nn.Module, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        self._module = module

    def run(
        self, waveform: NDArray[np.float32], lengths: NDArray[np.int64], outputs: Sequence[str]
    ) -> dict[str, NDArray[np.generic]]:
        """Run waveform [batch, samples] and lengths [batch]; return the arrays named in `outputs`."""
        values = {"waveform": self.place(waveform), "lengths": self.place(lengths)}
        return {name: value.numpy() for name, value in self.compute(values, outputs).items()}

    def place(self, array: NDArray[np.generic]) -> Held:
        """Return `array` as a value, without a copy."""
        return Held(torch.from_numpy(array))

    def compute(self, inputs: Mapping[str, Value], outputs: Sequence[str]) -> dict[str, Value]:
        """Run the module and return the `outputs`, in this order."""
        given = [torch.from_numpy(inputs[name].numpy()) for name in self.inputs]
        # A step takes its past and what the cross attention reads as one list.
        arguments = given if self.inputs == INPUTS else [*given[:3], given[3:]]
        with torch.inference_mode(), AccumulatedInSingle():
            arrays = dict(zip(self.outputs, self._module(*arguments), strict=True))
        return {name: Held(arrays[name]) for name in outputs}


class AccumulatedInSingle(TorchFunctionMode):
    """Computes products of half numbers as GPUs do: summed in fp32, and the sum rounded once.

    So do the CPU's own kernels, at a fiftieth of the speed where it has no instructions for them.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        dtype = next((each.dtype for each in args if isinstance(each, Tensor)), None)
        if func not in PRODUCTS or dtype not in HALVES.values():
            return func(*args, **(kwargs or {}))
        single = [each.float() if isinstance(each, Tensor) else each for each in args]
        return func(*single, **(kwargs or {})).to(dtype)


def encoder_session(exportable: Exportable) -> ModuleSession:
    """Return the session of what reads clips."""
    cross = exportable.decoder.generation.cross if exportable.decoder else ()
    outputs = (*(output.name for output in exportable.outputs), *exportable.lengths, *cross)
    return ModuleSession(exportable.module, INPUTS, outputs)


def step_session(decoder: Decoder) -> ModuleSession:
    """Return the session of what advances a decoder by one token."""
    spec = decoder.generation
    return ModuleSession(decoder.step, generation.step_inputs(spec), generation.step_outputs(spec))


def load_modules(exportable: Exportable) -> Load:
    """Return what loads, for a graph, the module of `exportable` that it is traced from."""

    def load(folder: Path, graph: Graph) -> ModuleSession:
        if exportable.decoder and graph.role == "step":
            return step_session(exportable.decoder)
        return encoder_session(exportable)

    return load


def run_modules(exportable: Exportable, clip: Clip) -> None:
    """Run every module of `exportable` on a clip, and of a decoder on a text of random tokens."""
    decoder = exportable.decoder
    if decoder is None:
        encoder_session(exportable).run(*pad([clip]), ())
        return
    spec = decoder.generation
    size = min(PARITY_TOKENS, spec.max_positions or PARITY_TOKENS)
    text = np.random.default_rng(23).integers(0, spec.vocabulary_size, (1, size))
    state = generation.start(encoder_session(exportable), spec, [clip], beams=1)
    generation.follow(step_session(decoder), spec, state, text)
