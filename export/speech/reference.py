"""The transformers model that an encoder must agree with."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class SpeechReference:
    """transformers on one unpadded clip, its feature extractor included."""

    def __init__(self, model: Any, feature_extractor: Any, attentions: bool = False) -> None:
        model.config.return_dict = True  # a checkpoint may ask for tuples, whose places have no names
        if attentions:
            model.set_attn_implementation("eager")  # the others do not return the probabilities
        self._attentions = attentions
        self._models = {torch.float32: model}
        self._feature_extractor = feature_extractor

    def __call__(
        self, clip: NDArray[np.float32], dtype: torch.dtype = torch.float32
    ) -> dict[str, NDArray[np.floating]]:
        """Return each output of `clip` [samples] without a batch axis, computed in fp32 or fp64."""
        if dtype not in self._models:
            self._models[dtype] = copy.deepcopy(self._models[torch.float32]).to(dtype)
        model = self._models[dtype]
        encoded: list[Any] = []
        hook = model.base_model.register_forward_hook(lambda module, inputs, output: encoded.append(output))
        try:
            with torch.inference_mode():
                result = model(
                    self._features(clip, dtype), output_hidden_states=True, output_attentions=self._attentions
                )
        finally:
            hook.remove()
        embeddings = encoded[0].last_hidden_state
        outputs = {"embeddings": embeddings, "pooled": embeddings.mean(1)}
        if "logits" in result:
            outputs["logits"] = result.logits
        outputs |= {f"hidden_states.{index}": state for index, state in enumerate(encoded[0].hidden_states)}
        if self._attentions:
            outputs |= {f"attentions.{index}": each for index, each in enumerate(encoded[0].attentions)}
        return {name: tensor[0].numpy() for name, tensor in outputs.items()}

    def _features(self, clip: NDArray[np.float32], dtype: torch.dtype) -> Tensor:
        extractor = self._feature_extractor
        if dtype == torch.float32:
            features = extractor(clip, sampling_rate=extractor.sampling_rate, return_tensors="pt")
            return features.input_values  # type: ignore[no-any-return]
        x = clip.astype(np.float64)  # `__call__` of the extractor ends in fp32, what it calls does not
        if extractor.do_normalize:
            [x] = extractor.zero_mean_unit_var_norm([x], attention_mask=None)
        return torch.from_numpy(x)[None].to(dtype)
