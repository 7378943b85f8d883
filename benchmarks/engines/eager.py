"""transformers as its documentation has it run: feature extractor and model, eager, fp32, default attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from engines.batch import Clip
from export.checkpoint import Checkpoint

MEL_MASK = "input_features_mask"


class Eager:
    """The encoder of a checkpoint in transformers."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        """Load the model."""
        self._extractor = checkpoint.feature_extractor()
        model: Any = checkpoint.model(checkpoint.architecture)
        # Without a head or a decoder: `embeddings` is what both sides are asked for.
        self._model = model.encoder if checkpoint.config.is_encoder_decoder else model.base_model
        self.sample_rate = int(self._extractor.sampling_rate)
        self.attention = str(self._model.config._attn_implementation)

    def __call__(self, clips: Sequence[Clip]) -> list[NDArray[np.float32]]:
        """Return the embeddings [frames, hidden] of each clip; all of one length, so that no padding spoils them."""
        features = self._extractor(list(clips), sampling_rate=self.sample_rate, return_tensors="pt")
        with torch.inference_mode():
            if MEL_MASK not in features:
                return list(self._model(**features).last_hidden_state.numpy())
            # This extractor's mask is true where there is a frame, that of its encoder on padding.
            result = self._model(features["input_features"], ~features[MEL_MASK], return_dict=True)
        rows = zip(result.last_hidden_state, result.audio_mel_mask, strict=True)
        return [embeddings[~padding].numpy() for embeddings, padding in rows]
