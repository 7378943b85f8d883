"""A transcript -> what OpenAI's clients expect of json and verbose_json."""

from __future__ import annotations

import math
import zlib
from collections.abc import Collection

from server.decoding.transcript import Piece, Transcript
from server.formats.items import Item, times
from server.formats.segments import segments

# Of a language that nobody names, as of ISO 639-2.
UNDETERMINED = "und"
# `seek` is in frames of their models, of 10 ms.
SEEK_HZ = 100


def plain(transcript: Transcript, duration: float) -> Item:
    """Return the answer as json; `duration` in seconds."""
    return {"text": transcript.text, "usage": {"type": "duration", "seconds": duration}}


def verbose(
    transcript: Transcript,
    duration: float,
    *,
    task: str,
    language: str | None,
    temperature: float | None,
    parts: Collection[str] = ("segment",),
) -> Item:
    """Return the answer as verbose_json, with the `parts` of the text that are asked for: word, segment or both.

    Raises ValueError for parts whose times the transcript does not have.
    """
    found: Item = {
        "task": task,
        "language": language or UNDETERMINED,
        "duration": duration,
        **plain(transcript, duration),
    }
    if "word" in parts:
        if transcript.words is None:
            raise ValueError("the transcript has no words")
        found["words"] = [{"word": word.text, **times(word)} for word in transcript.words]
    if "segment" in parts:
        found["segments"] = [
            _segment(number, piece, temperature or 0.0) for number, piece in enumerate(segments(transcript))
        ]
    return found


def _segment(number: int, piece: Piece, temperature: float) -> Item:
    data = piece.text.encode()
    return {
        "id": number,
        "seek": round(SEEK_HZ * piece.start),
        **times(piece),
        "text": piece.text,
        "tokens": [],
        "temperature": temperature,
        "avg_logprob": math.log(piece.confidence) if piece.confidence else 0.0,
        "compression_ratio": len(data) / len(zlib.compress(data)),
        "no_speech_prob": 0.0,
    }
