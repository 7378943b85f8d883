"""transformers as its documentation has it run: feature extractor and model, eager or compiled, on a processor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from benchmarks.peers.scripts.protocol import Clip, Rows, serve


class TorchModel:
    """A model, without a head."""

    def __init__(self, folder: str, dtype: str, is_compiled: bool) -> None:
        """Load the checkpoint in `folder`, in float32 or bfloat16; it is compiled by its first run."""
        self._extractor: Any = transformers.AutoFeatureExtractor.from_pretrained(folder)
        self._dtype: torch.dtype = getattr(torch, dtype)
        model: Any = transformers.AutoModel.from_pretrained(folder, dtype=self._dtype).eval()
        # Clips have all lengths: without `dynamic` each of the first ones would be compiled for itself.
        self._model = torch.compile(model, dynamic=True) if is_compiled else model

    def alone(self, clip: Clip) -> NDArray[np.float32]:
        """Return the embeddings of a clip."""
        return self._run([clip])[0]

    def padded(self, clips: Sequence[Clip]) -> Rows:
        """Return the embeddings of a batch, which the feature extractor pads."""
        return self._run(list(clips), padding=True)

    def _run(self, clips: list[Clip], **options: bool) -> Rows:
        rate = self._extractor.sampling_rate
        features = self._extractor(clips, sampling_rate=rate, return_tensors="pt", **options)
        with torch.inference_mode():
            return list(self._model(**features.to(self._dtype)).last_hidden_state.float().numpy())


def load(options: dict[str, Any]) -> TorchModel:
    """Load the checkpoint of `options` in its `dtype`, compiled where it says so."""
    torch.set_num_threads(options["threads"])
    return TorchModel(options["checkpoint"], options["dtype"], options["compiled"])


if __name__ == "__main__":
    serve(load)
