"""The transformers model that an encoder must agree with."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from export import kaldi
from export.spectrogram.config import SpectrogramConfig


class SpectrogramReference:
    """transformers on one unpadded clip, its feature extractor included."""

    def __init__(self, model: Any, feature_extractor: Any, config: SpectrogramConfig) -> None:
        model.config.return_dict = True  # a checkpoint may ask for tuples, whose places have no names
        if config.attentions:
            model.set_attn_implementation("eager")  # the others do not return the probabilities
        self._models = {torch.float32: model}
        self._feature_extractor = feature_extractor
        self._config = config

    def __call__(
        self, clip: NDArray[np.float32], dtype: torch.dtype = torch.float32
    ) -> dict[str, NDArray[np.floating]]:
        """Return each output of `clip` [samples] without a batch axis, computed in fp32 or fp64."""
        if dtype not in self._models:
            self._models[dtype] = copy.deepcopy(self._models[torch.float32]).to(dtype)
        features = self._features(clip, dtype)
        if not self._config.cropped:
            return self._compute(self._models[dtype], features)
        patches = needed_patches(1 + (len(clip) - kaldi.WINDOW) // kaldi.HOP, self._config)
        return self._compute_cropped(self._models[dtype], features, patches)

    def _compute(self, model: Any, features: Tensor) -> dict[str, NDArray[np.floating]]:
        encoded: list[Any] = []
        hook = model.base_model.register_forward_hook(lambda module, inputs, output: encoded.append(output))
        try:
            with torch.inference_mode():
                result = model(features, output_hidden_states=True, output_attentions=self._config.attentions)
        finally:
            hook.remove()
        [base] = encoded
        outputs = {"embeddings": base.last_hidden_state, "pooled": base.pooler_output}
        if "logits" in result:
            outputs["logits"] = result.logits
        outputs |= {f"hidden_states.{index}": state for index, state in enumerate(base.hidden_states)}
        if self._config.attentions:
            outputs |= {f"attentions.{index}": each for index, each in enumerate(base.attentions)}
        return {name: tensor[0].numpy() for name, tensor in outputs.items()}

    def _compute_cropped(self, model: Any, features: Tensor, patches: int) -> dict[str, NDArray[np.floating]]:
        """Run the model over so many patches of time with their positions; its tokens with the times outermost."""
        config, embeddings = self._config, model.base_model.embeddings
        full = embeddings.position_embeddings
        table = full.data[0, 2:].view(config.mel_patches, config.time_patches, -1)[:, :patches].flatten(0, 1)
        embeddings.position_embeddings = nn.Parameter(torch.cat((full.data[:, :2], table[None]), 1))
        frames = (patches - 1) * config.time_stride + config.patch_size
        try:
            outputs = self._compute(model, features[:, :frames])
        finally:
            embeddings.position_embeddings = full
        order = np.arange(config.mel_patches * patches).reshape(config.mel_patches, patches).T.ravel()
        order = np.concatenate(([0, 1], 2 + order))
        for name, array in outputs.items():
            if name.startswith("attentions."):
                outputs[name] = array[:, order][:, :, order]
            elif name not in {"pooled", "logits"}:
                outputs[name] = array[order]
        return outputs

    def _features(self, clip: NDArray[np.float32], dtype: torch.dtype) -> Tensor:
        extractor = self._feature_extractor
        if dtype == torch.float32:
            features = extractor(clip, sampling_rate=extractor.sampling_rate, return_tensors="pt")
            return features.input_values  # type: ignore[no-any-return]
        # `__call__` of the extractor takes nothing but fp32, what it calls does.
        energies = extractor._extract_fbank_features(clip.astype(np.float64), max_length=extractor.max_length)
        energies = energies.astype(np.float64)
        if extractor.do_normalize:
            energies = extractor.normalize(energies)
        return torch.from_numpy(energies)[None].to(dtype)


def needed_patches(frames: int, config: SpectrogramConfig) -> int:
    """Return the patches of time that so many frames need, of those that there are positions for."""
    further = max(0, -(-(frames - config.patch_size) // config.time_stride))
    return min(1 + further, config.time_patches)
