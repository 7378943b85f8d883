"""What was said in a clip, and when: the one result of every model that writes text."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Piece:
    """A word, a character or a segment of the text.

    `start` and `end` are seconds from the beginning of the clip. `confidence` is in (0, 1]; None where the model says
    nothing about it.
    """

    text: str
    start: float
    end: float
    confidence: float | None


@dataclass(frozen=True)
class Alternative:
    """One of the texts that may have been said: the better of two has the higher `score`."""

    text: str
    confidence: float | None
    score: float


@dataclass(frozen=True)
class Transcript:
    """A text and how sure the model is of it, in (0, 1]; None for an empty text.

    `words`, `chars` and `segments` are None where the model has no times for them or nobody asked. `alternatives` are
    best first, the text itself among them; none unless they were asked for. `tokens` is how many a model wrote that
    writes token by token.
    """

    text: str
    confidence: float | None
    words: tuple[Piece, ...] | None = None
    chars: tuple[Piece, ...] | None = None
    segments: tuple[Piece, ...] | None = None
    alternatives: tuple[Alternative, ...] = ()
    tokens: int | None = None
