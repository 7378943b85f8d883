"""The ONNX export of transformers' documentation, in ONNX Runtime: features are extracted outside of the graph.

In int8 its products of matrices are quantised dynamically by ONNX Runtime's own `quantize_dynamic`. Left to itself that
takes the convolutions too, and stops at one whose weights the graph computes, as those of HuBERT and SEW do.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.quantization import quantize_dynamic
from optimum.onnxruntime import ORTModelForFeatureExtraction
from transformers import AutoFeatureExtractor

from benchmarks.peers.scripts.protocol import Clip, Rows, serve

EXACT, QUANTISED = "model.onnx", "model_quantized.onnx"  # optimum's names


class OptimumModel:
    """An exported model."""

    def __init__(self, folder: Path, file_name: str, threads: int) -> None:
        """Load a graph that optimum has exported to `folder`."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self._extractor: Any = AutoFeatureExtractor.from_pretrained(folder)
        self._model: Any = ORTModelForFeatureExtraction.from_pretrained(
            folder, file_name=file_name, provider="CPUExecutionProvider", session_options=options
        )

    def alone(self, clip: Clip) -> NDArray[np.float32]:
        """Return the embeddings of a clip."""
        return self._run([clip])[0]

    def padded(self, clips: Sequence[Clip]) -> Rows:
        """Return the embeddings of a batch, which the feature extractor pads."""
        return self._run(list(clips), padding=True)

    def _run(self, clips: list[Clip], **options: bool) -> Rows:
        rate = self._extractor.sampling_rate
        features = self._extractor(clips, sampling_rate=rate, return_tensors="np", **options)
        return list(self._model(**features).last_hidden_state)


def load(options: dict[str, Any]) -> OptimumModel:
    """Load the checkpoint of `options` in its `precision`, from its `work` folder, where it is exported first."""
    folder = Path(options["work"], "onnx")
    if not folder.is_dir():
        model: Any = ORTModelForFeatureExtraction.from_pretrained(options["checkpoint"], export=True)
        partial = folder.with_name("onnx-partial")
        shutil.rmtree(partial, ignore_errors=True)
        model.save_pretrained(partial)
        AutoFeatureExtractor.from_pretrained(options["checkpoint"]).save_pretrained(partial)
        partial.rename(folder)
    is_quantised = options["precision"] == "int8"
    if is_quantised and not (folder / QUANTISED).is_file():
        partial_file = folder / f"partial-{QUANTISED}"
        quantize_dynamic(folder / EXACT, partial_file, op_types_to_quantize=["MatMul"])
        partial_file.rename(folder / QUANTISED)
    return OptimumModel(folder, QUANTISED if is_quantised else EXACT, options["threads"])


if __name__ == "__main__":
    serve(load)
