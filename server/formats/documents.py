"""The formats that are a text of their own rather than JSON, by the names under which they are asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from server.decoding.transcript import Transcript
from server.formats.segments import segments
from server.formats.subtitles import srt, vtt


@dataclass(frozen=True)
class Document:
    """One format: its media type, what its files end with, and how a transcript is written in it.

    `joins`: one document may have several clips, one after the other; times are those of one clip.
    """

    media_type: str
    suffix: str
    write: Callable[[Transcript], str]
    joins: bool = False


def line(transcript: Transcript) -> str:
    """Return the text as one line; a line break in it becomes a space."""
    return f"{' '.join(transcript.text.splitlines())}\n"


# For SubRip no type is registered: this is the one in use. Browsers store it, where text/plain would be shown.
DOCUMENTS = {
    "text": Document("text/plain", ".txt", line, joins=True),
    "srt": Document("application/x-subrip", ".srt", lambda transcript: srt(segments(transcript))),
    "vtt": Document("text/vtt", ".vtt", lambda transcript: vtt(segments(transcript))),
}
