"""What is asked: clips of mixed lengths as requests for a task in one of the formats of its answer."""

from __future__ import annotations

import io
from collections.abc import Sequence
from urllib.parse import urlencode

import numpy as np
import soundfile

from benchmarks import models
from benchmarks.load.client import Request
from engines.batch import Clip
from engines.manifest import Manifest, Task

# Query and Accept header of what /v1/encode can answer.
FORMATS: dict[str, tuple[dict[str, str], str]] = {
    "json": ({}, "application/json"),
    "base64": ({"encoding_format": "base64"}, "application/json"),
    "npy": ({}, "application/x-npy"),
    "pooled": ({"pooling": "mean"}, "application/json"),
}


def mixed(manifest: Manifest, lengths: tuple[float, float], count: int, seed: int) -> list[Clip]:
    """Return `count` clips whose `lengths` are uniform between these seconds, within the engine's."""
    low, high = max(lengths[0], manifest.seconds[0]), min(lengths[1], manifest.seconds[1])
    drawn = np.random.default_rng(seed).uniform(low, high, count)
    return [models.clips(1, float(length), manifest.sample_rate, index)[0] for index, length in enumerate(drawn)]


def requests(
    clips: Sequence[Clip],
    sample_rate: int,
    model: str,
    task: Task = "encode",
    answer_format: str = "base64",
    timeout: float | None = None,
) -> list[Request]:
    """Return a request for each clip, as 16-bit WAV in a raw body with the options in the query."""
    options, accept = FORMATS[answer_format] if task == "encode" else ({}, "application/json")
    query = {"model": model} | options | ({} if timeout is None else {"timeout": str(timeout)})
    headers = {"Content-Type": "audio/wav", "Accept": accept}
    path = f"/v1/{task}?{urlencode(query)}"
    return [Request.post(path, wav(clip, sample_rate), len(clip) / sample_rate, headers) for clip in clips]


def wav(clip: Clip, sample_rate: int) -> bytes:
    """Return `clip` as a 16-bit WAV file."""
    file = io.BytesIO()
    soundfile.write(file, clip, sample_rate, format="WAV", subtype="PCM_16")
    return file.getvalue()
