"""The transformers model that a USM encoder must agree with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.overrides import TorchFunctionMode

from export.usm.extractor import MULTIPLE


class UsmReference:
    """transformers on one unpadded clip, its feature extractor included."""

    def __init__(self, model: Any, feature_extractor: Any) -> None:
        self._model, self._extractor = model, feature_extractor

    def __call__(
        self, clip: NDArray[np.float32], dtype: torch.dtype = torch.float32
    ) -> dict[str, NDArray[np.floating]]:
        """Return each output of `clip` [samples] without a batch axis, computed in fp32 or fp64.

        The encoder itself returns no hidden states: they are what its blocks take and give.
        """
        states: list[Tensor] = []
        blocks = self._model.conformer
        hooks = [
            blocks[0].register_forward_pre_hook(lambda module, inputs: states.append(inputs[0])),
            *(block.register_forward_hook(lambda module, inputs, output: states.append(output)) for block in blocks),
        ]
        single = dtype == torch.float32
        try:
            with torch.inference_mode(), nullcontext() if single else _InDouble():
                mel, padding = self._single(clip) if single else self._double(clip)
                result = self._model(mel, padding, return_dict=True)
        finally:
            for hook in hooks:
                hook.remove()
        embeddings = result.last_hidden_state[:, ~result.audio_mel_mask[0]]
        outputs = {"embeddings": embeddings, "pooled": embeddings.mean(1)}
        outputs |= {f"hidden_states.{index}": state for index, state in enumerate(states)}
        return {name: tensor[0].numpy() for name, tensor in outputs.items()}

    def _single(self, clip: NDArray[np.float32]) -> tuple[Tensor, Tensor]:
        """Return the log mel frames of `clip`, and the mask that is true for those that are padding."""
        rate = self._extractor.sampling_rate
        features = self._extractor([clip], sampling_rate=rate, return_tensors="pt")
        return features.input_features, ~features.input_features_mask

    def _double(self, clip: NDArray[np.float32]) -> tuple[Tensor, Tensor]:
        """Return the same in fp64: `__call__` of the extractor ends in fp32, what it calls does not."""
        extractor, padding = self._extractor, (0, -len(clip) % MULTIPLE)
        samples = np.pad(clip.astype(np.float64), padding, constant_values=extractor.padding_value)
        mel, there = extractor._extract_spectrogram(samples, np.pad(np.ones(len(clip), np.int32), padding))
        return torch.from_numpy(mel)[None], torch.from_numpy(~there)[None]


class _InDouble(TorchFunctionMode):
    """Computes everything in fp64, where the encoder asks for fp32 too: in its norms and its softmax.

    Weights are converted when they are used: a copy of all of them would take three times the memory.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        if func is torch.Tensor.float:
            func = torch.Tensor.double
        if getattr(func, "__name__", "") == "__get__":  # of a shape or a type
            return func(*args)
        return func(*map(_doubled, args), **{key: _doubled(value) for key, value in (kwargs or {}).items()})


def _doubled(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(map(_doubled, value))
    if isinstance(value, Tensor) and value.dtype == torch.float32:
        return value.double()
    return torch.float64 if value is torch.float32 else value
