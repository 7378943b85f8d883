"""The ONNX graph that optimum exports, behind FastAPI, clip by clip: features are extracted outside of the graph.

`optimum-cli export onnx --task feature-extraction --model CHECKPOINT EXPORT` makes it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from transformers import AutoFeatureExtractor

from benchmarks.peers.servers.scripts import clips, options
from benchmarks.peers.servers.scripts.wav import Clip


class Exported:
    """A graph with its feature extractor."""

    def __init__(self, folder: Path, threads: int) -> None:
        """Load what optimum has written to `folder`."""
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = threads
        providers = ["CPUExecutionProvider"]
        self._session = onnxruntime.InferenceSession(folder / "model.onnx", settings, providers=providers)
        self._extractor: Any = AutoFeatureExtractor.from_pretrained(folder)
        self._inputs = [each.name for each in self._session.get_inputs()]

    def __call__(self, clip: Clip) -> NDArray[np.float32]:
        """Return the embeddings of a clip: [frames, hidden]."""
        features = self._extractor(clip, sampling_rate=self._extractor.sampling_rate, return_tensors="np")
        [states] = self._session.run(["last_hidden_state"], {name: features[name] for name in self._inputs})
        embeddings: NDArray[np.float32] = states[0]
        return embeddings


if __name__ == "__main__":
    arguments = options.parser(__doc__, "--export", "the folder that optimum wrote").parse_args()
    clips.serve(Exported(Path(arguments.export), arguments.threads), arguments.port)
