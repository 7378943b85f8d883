"""What a server's answers become. Fields of a newer server are kept, and seen as attributes of the same name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict


class Result(BaseModel):
    """What all of them share."""

    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())


class Timed(Result):
    """What is said from `start` to `end`, in seconds from the beginning of the clip."""

    start: float
    end: float
    confidence: float | None = None


class Word(Timed):
    """A word."""

    word: str


class Char(Timed):
    """A character, or a space between two words."""

    char: str


class Segment(Timed):
    """As much of the text as a subtitle has, or what a model wrote about a window."""

    text: str


class Alternative(Result):
    """A text that may have been said; the better of two has the higher score."""

    text: str
    confidence: float | None = None
    score: float


class Transcription(Result):
    """The text of one clip of `duration` seconds, cut into so many `windows`. What was not asked for is None."""

    text: str
    confidence: float | None = None
    duration: float
    windows: int
    language: str | None = None
    tokens: int | None = None
    alternatives: list[Alternative] | None = None
    words: list[Word] | None = None
    chars: list[Char] | None = None
    segments: list[Segment] | None = None


class Label(Result):
    """A label and its score."""

    label: str
    score: float


class LabelsInTime(Result):
    """The labels of one window, best first, and where it lies in its clip, in seconds."""

    start: float
    end: float
    labels: list[Label]


class Classification(Result):
    """The labels of one clip of `duration` seconds, best first, cut into so many `windows`."""

    labels: list[Label]
    timeline: list[LabelsInTime] | None = None
    duration: float
    windows: int


class Model(Result):
    """A model of the server; `state` is ready where it is served."""

    id: str
    state: str
    tasks: list[str] = []


@dataclass(frozen=True)
class Encoding:
    """One array of one clip of `duration` seconds: [frames, hidden], or [hidden] where it is pooled.

    `layer` is None for the last layer's output, `frame_rate` in frames per second None without a time axis. The clip
    was cut into so many `windows`.
    """

    array: NDArray[np.floating[Any]]
    layer: int | None
    frame_rate: float | None
    duration: float
    windows: int
