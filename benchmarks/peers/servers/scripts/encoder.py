"""A checkpoint in transformers, as its documentation has it run: feature extractor and model, eager, fp32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoFeatureExtractor, AutoModel

from benchmarks.peers.servers.scripts.wav import Clip


class Encoder:
    """The checkpoint."""

    def __init__(self, folder: str, threads: int) -> None:
        """Load what is in `folder`."""
        torch.set_num_threads(threads)
        self._extractor: Any = AutoFeatureExtractor.from_pretrained(folder)
        self._model: Any = AutoModel.from_pretrained(folder).eval()

    def alone(self, clip: Clip) -> NDArray[np.float32]:
        """Return the embeddings of a clip: [frames, hidden]."""
        return self._states([clip])[0].numpy()

    def padded(self, clips: Sequence[Clip]) -> list[dict[str, Any]]:
        """Return the answers to `clips`, a batch that is padded to the longest of them.

        An answer has the embeddings' mean over the frames that the model itself says a clip of such a length has, its
        samples, and those of the longest of the batch.
        """
        longest = max(map(len, clips))
        pooled = (row[: self._frames(len(clip))].mean(0) for row, clip in zip(self._states(clips), clips, strict=True))
        return [
            {"embedding": embedding.tolist(), "samples": len(clip), "longest": longest}
            for embedding, clip in zip(pooled, clips, strict=True)
        ]

    def _states(self, clips: Sequence[Clip]) -> torch.Tensor:
        rate = self._extractor.sampling_rate
        features = self._extractor(list(clips), sampling_rate=rate, padding=True, return_tensors="pt")
        with torch.inference_mode():
            states: torch.Tensor = self._model(**features).last_hidden_state
        return states

    def _frames(self, samples: int) -> int | None:
        """Return the frames of a clip; None where the model has as many for every clip."""
        count = getattr(self._model, "_get_feat_extract_output_lengths", None)
        return None if count is None else int(count(torch.tensor(samples)))
