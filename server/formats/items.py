"""A transcript -> what JSON says of it, in answers and in lines of JSON."""

from __future__ import annotations

from typing import Any

from server.decoding.transcript import Piece, Transcript
from server.formats.segments import segments

Item = dict[str, Any]

# Of seconds: as many as samples at 16 kHz have, so that a clip does not end before its last word.
DECIMALS = 7


def item(transcript: Transcript, *, verbose: bool = False) -> Item:
    """Return the text and its confidence, and what else `transcript` has; `verbose`: its segments too.

    Raises ValueError for segments of a transcript without times.
    """
    found: Item = {"text": transcript.text, "confidence": transcript.confidence}
    if transcript.tokens is not None:
        found["tokens"] = transcript.tokens
    if transcript.words is not None:
        found["words"] = [_timed("word", word) for word in transcript.words]
    if transcript.chars is not None:
        found["chars"] = [_timed("char", char) for char in transcript.chars]
    if verbose:
        found["segments"] = [_timed("text", segment) for segment in segments(transcript)]
    if transcript.alternatives:
        found["alternatives"] = [
            {"text": one.text, "confidence": one.confidence, "score": one.score} for one in transcript.alternatives
        ]
    return found


def times(piece: Piece) -> Item:
    """Return when `piece` is said."""
    return {"start": round(piece.start, DECIMALS), "end": round(piece.end, DECIMALS)}


def _timed(name: str, piece: Piece) -> Item:
    return {name: piece.text, **times(piece), "confidence": piece.confidence}
