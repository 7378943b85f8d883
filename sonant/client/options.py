"""The options of each task, as the server has them; what they mean stands in its documentation, at /docs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypedDict


class Options(TypedDict, total=False):
    """Of every task."""

    model: str
    timeout: float


class WindowOptions(Options, total=False):
    """Of what takes clips of any length."""

    windows: Literal["auto", "none"]
    window_seconds: float
    context_seconds: float


class EncodeOptions(WindowOptions, total=False):
    """Of `encode`, beside `layer`."""

    pooling: Literal["none", "mean", "max", "first", "model"]
    normalize: bool
    dtype: Literal["float32", "float16"]


class TranscribeOptions(WindowOptions, total=False):
    """Of `transcribe`."""

    timestamps: Literal["none", "word", "char"]
    beams: int
    alternatives: int
    temperature: float
    top_k: int
    top_p: float
    seed: int
    max_tokens: int
    language: str
    hotwords: str | Sequence[str]
    hotword_weight: float


class ClassifyOptions(WindowOptions, total=False):
    """Of `classify`."""

    timeline: bool
    top_k: int
    function: Literal["softmax", "sigmoid", "none"]
