"""transformers' pipeline for classification: what its documentation begins with.

The checkpoints may have no head: the pipeline then has one with random weights, which takes next to no time. What it is
judged by are the embeddings that reach the head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from benchmarks.peers.scripts.protocol import Clip, Rows, serve


class Classifier:
    """A pipeline."""

    def __init__(self, folder: str) -> None:
        """Load the checkpoint in `folder`."""
        model: Any = transformers.AutoModelForAudioClassification.from_pretrained(folder, dtype=torch.float32)
        extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
        pipeline: Any = transformers.pipeline
        self._pipe = pipeline("audio-classification", model=model, feature_extractor=extractor, device="cpu")
        self._embeddings: list[torch.Tensor] = []
        model.base_model.register_forward_hook(lambda _, __, out: self._embeddings.append(out.last_hidden_state))

    def alone(self, clip: Clip) -> NDArray[np.float32]:
        """Classify a clip; return the embeddings of which that was done."""
        self._pipe(clip)
        return self._seen()[0]

    def padded(self, clips: Sequence[Clip]) -> Rows:
        """Classify clips as one batch."""
        self._pipe(list(clips), batch_size=len(clips))
        return self._seen()

    def _seen(self) -> Rows:
        rows = [row.numpy() for batch in self._embeddings for row in batch]
        self._embeddings.clear()
        return rows


def load(options: dict[str, Any]) -> Classifier:
    """Load the checkpoint of `options`."""
    torch.set_num_threads(options["threads"])
    return Classifier(options["checkpoint"])


if __name__ == "__main__":
    serve(load)
