"""A server that takes a WAV file and returns one vector: what one writes around a model in an afternoon."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from benchmarks.load.adapters.base import Adapter, Result, check_choice, floats
from benchmarks.load.client import Answer, Request
from benchmarks.load.requests import wav
from engines.batch import Clip


@dataclass(frozen=True)
class Raw(Adapter):
    """POST of a WAV file to `path`; JSON with an `embedding` comes back, as a `list` or as `base64` of its float32."""

    path: str = "/encode"
    form: str = "list"

    def __post_init__(self) -> None:
        """Refuse a form that there is not."""
        check_choice("form", self.form, "list", "base64")

    def request(self, clip: Clip, sample_rate: int) -> Request:
        """Return a request with `clip` as its body."""
        headers = {"Content-Type": "audio/wav"}
        return Request.post(self.path, wav(clip, sample_rate), len(clip) / sample_rate, headers)

    def read(self, answer: Answer) -> Result:
        """Return the vector: [hidden]."""
        embedding = json.loads(answer.body)["embedding"]
        return floats(embedding) if self.form == "base64" else np.array(embedding, np.float32)
