"""A decoder's torch modules, driven as an engine drives its graphs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engines import generation
from engines.generation import State
from engines.runtimes import Value
from export.exportable import Decoder, Exportable


@dataclass(frozen=True)
class TorchValue:
    """A tensor, behind the protocol of a runtime's value."""

    tensor: Tensor

    def numpy(self) -> NDArray[np.generic]:
        array: NDArray[np.generic] = self.tensor.numpy()
        return array

    def select(self, rows: NDArray[np.int64], frames: int) -> TorchValue:
        return TorchValue(self.tensor[torch.from_numpy(rows), :, :frames])


class TorchResidentSession:
    """A torch module, behind the protocol of a session whose arrays stay where they are."""

    device = "cpu"

    def __init__(
        self, inputs: Sequence[str], outputs: Sequence[str], run: Callable[[Sequence[Tensor]], Sequence[Tensor]]
    ) -> None:
        self.inputs, self.outputs, self._run = tuple(inputs), tuple(outputs), run

    def run(
        self, waveform: NDArray[np.float32], lengths: NDArray[np.int64], outputs: Sequence[str]
    ) -> dict[str, NDArray[np.generic]]:
        placed = {"waveform": self.place(waveform), "lengths": self.place(lengths)}
        return {name: value.numpy() for name, value in self.compute(placed, outputs).items()}

    def place(self, array: NDArray[np.generic]) -> TorchValue:
        return TorchValue(torch.from_numpy(array))

    def compute(self, inputs: Mapping[str, Value], outputs: Sequence[str]) -> dict[str, Value]:
        assert set(inputs) == set(self.inputs)
        with torch.inference_mode():
            arrays = self._run([torch.from_numpy(inputs[name].numpy()) for name in self.inputs])
        named = dict(zip(self.outputs, arrays, strict=True))
        return {name: TorchValue(named[name]) for name in outputs}


class Writer:
    """An exportable's decoder, as `Engine` has it."""

    def __init__(self, exportable: Exportable) -> None:
        assert exportable.decoder is not None
        self.decoder: Decoder = exportable.decoder
        self.spec = self.decoder.generation
        step = self.decoder.step
        self.starting = TorchResidentSession(
            ("waveform", "lengths"),
            (*(spec.name for spec in exportable.outputs), *exportable.lengths, *self.spec.cross),
            lambda tensors: exportable.module(*tensors),
        )
        self.stepping = TorchResidentSession(
            generation.step_inputs(self.spec),
            generation.step_outputs(self.spec),
            lambda tensors: step(*tensors[:3], tensors[3:]),
        )

    def start(self, clips: Sequence[NDArray[np.float32]], beams: int) -> State:
        return generation.start(self.starting, self.spec, clips, beams, padding=float("nan"))

    def step(self, state: State, tokens: NDArray[np.int64], parents: NDArray[np.int64]) -> NDArray[np.float32]:
        return generation.step(self.stepping, self.spec, state, tokens, parents)

    def follow(self, state: State, texts: NDArray[np.int64]) -> NDArray[np.float32]:
        return generation.follow(self.stepping, self.spec, state, texts)
