"""A Sonant server."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import cast

import numpy as np

from benchmarks.load.adapters.base import Adapter, Result, check_choice, floats
from benchmarks.load.client import Answer, Request
from benchmarks.load.requests import FORMATS, requests
from engines.batch import Clip
from engines.manifest import Task


@dataclass(frozen=True)
class Sonant(Adapter):
    """POST of a WAV file to the route of `task`; `format` is that of what `encode` answers, `timeout` in seconds."""

    model: str = ""  # the server's own
    task: str = "encode"
    format: str = "pooled"
    timeout: str = ""  # the server's own

    def __post_init__(self) -> None:
        """Refuse what there is not."""
        check_choice("task", self.task, "encode", "transcribe", "classify")
        check_choice("format", self.format, *FORMATS)

    def request(self, clip: Clip, sample_rate: int) -> Request:
        """Return a request with `clip` as its body."""
        timeout = float(self.timeout) if self.timeout else None
        return requests([clip], sample_rate, self.model, cast("Task", self.task), self.format, timeout)[0]

    def read(self, answer: Answer) -> Result:
        """Return the embeddings, [hidden] or [frames, hidden], the text, or the scores of the labels by their names."""
        if answer.headers["content-type"] == "application/x-npy":
            return cast("Result", np.load(io.BytesIO(answer.body)))
        [item] = json.loads(answer.body)["data"]
        if self.task == "transcribe":
            return str(item["text"])
        if self.task == "classify":
            named = sorted(item["labels"], key=lambda label: str(label["label"]))
            return np.array([label["score"] for label in named], np.float32)
        embedding = item["embedding"]
        return floats(embedding).reshape(item["shape"]) if self.format == "base64" else np.array(embedding, np.float32)
