"""A Triton Inference Server, or another with KServe's second protocol and its extension for binary tensors.

Source: protocol/extension_binary_data.md of triton-inference-server/server.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.load.adapters.base import Adapter, Result
from benchmarks.load.client import Answer, Request
from engines.batch import Clip

JSON_BYTES = "Inference-Header-Content-Length"  # the tensors follow
DTYPES = {"FP16": "<f2", "FP32": "<f4", "FP64": "<f8"}


@dataclass(frozen=True)
class Triton(Adapter):
    """POST of a waveform, FP32 [1, samples], to a `model`; with `lengths`, an INT64 [1] of that name says how long."""

    model: str = "encoder"
    input: str = "WAVEFORM"
    output: str = "EMBEDDINGS"
    lengths: str = ""

    def request(self, clip: Clip, sample_rate: int) -> Request:
        """Return a request with `clip` as a tensor."""
        tensors = [(self.input, "FP32", clip.astype("<f4")[np.newaxis])]
        if self.lengths:
            tensors.append((self.lengths, "INT64", np.array([len(clip)], "<i8")))
        inputs = [
            {"name": name, "datatype": kind, "shape": tensor.shape, "parameters": {"binary_data_size": tensor.nbytes}}
            for name, kind, tensor in tensors
        ]
        outputs = [{"name": self.output, "parameters": {"binary_data": True}}]
        head = json.dumps({"inputs": inputs, "outputs": outputs}).encode()
        body = head + b"".join(tensor.tobytes() for _, _, tensor in tensors)
        headers = {"Content-Type": "application/octet-stream", JSON_BYTES: str(len(head))}
        return Request.post(f"/v2/models/{self.model}/infer", body, len(clip) / sample_rate, headers)

    def read(self, answer: Answer) -> Result:
        """Return the output: of the shape that the model gives it."""
        length = int(answer.headers.get(JSON_BYTES.lower(), len(answer.body)))
        start = length
        for tensor in json.loads(answer.body[:length])["outputs"]:
            size = int(tensor.get("parameters", {}).get("binary_data_size", 0))
            if tensor["name"] == self.output:
                return self._array(tensor, answer.body[start : start + size])
            start += size
        raise ValueError(f"no output {self.output}")

    def _array(self, tensor: dict[str, Any], data: bytes) -> Result:
        values = np.frombuffer(data, DTYPES[tensor["datatype"]]) if data else np.array(tensor["data"])
        return values.reshape(tensor["shape"]).astype(np.float32)
