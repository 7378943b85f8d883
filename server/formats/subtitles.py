"""Segments -> SubRip (srt) and WebVTT (https://www.w3.org/TR/webvtt1/).

Times are in whole milliseconds. No two subtitles overlap, each is there for some time, and one that would flash up
stays as long as it takes to be seen, or until the next.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from server.decoding.transcript import Piece
from server.formats.segments import lines

# The shortest subtitle is 5/6 s, by the source of the longest: server.formats.segments.
SHORTEST_MILLISECONDS = 833


class Cue(NamedTuple):
    """One subtitle; its times are milliseconds from the beginning of the clip."""

    start: int
    end: int
    lines: Sequence[str]  # none is empty


def srt(segments: Sequence[Piece]) -> str:
    """Return a SubRip file. It has no way to escape anything: the text stands there as it is."""
    blocks = [
        f"{number}\n{_clock(cue.start, ',')} --> {_clock(cue.end, ',')}\n" + _text(cue.lines)
        for number, cue in enumerate(cues(segments), 1)
    ]
    return "\n".join(blocks)


def vtt(segments: Sequence[Piece]) -> str:
    """Return a WebVTT file. In its text, `&`, `<` and `>`, and with that `-->`, are escaped."""
    blocks = [
        f"{_clock(cue.start, '.')} --> {_clock(cue.end, '.')}\n" + html.escape(_text(cue.lines), quote=False)
        for cue in cues(segments)
    ]
    return "\n".join(["WEBVTT\n", *blocks])


def cues(segments: Sequence[Piece]) -> Iterator[Cue]:
    """Yield the subtitles of `segments`, which are in the order of their times."""
    end = 0
    for place, segment in enumerate(segments):
        text = lines(segment.text.split())
        if not text:
            continue
        start = max(end, _milliseconds(segment.start))
        end = max(start + 1, _milliseconds(segment.end))
        if place + 1 < len(segments):
            following = _milliseconds(segments[place + 1].start)
            end = max(end, min(following, start + SHORTEST_MILLISECONDS))
        else:
            end = max(end, start + SHORTEST_MILLISECONDS)
        yield Cue(start, end, text)


def _milliseconds(seconds: float) -> int:
    return round(1000 * seconds)


def _clock(milliseconds: int, point: str) -> str:
    """Return the time as HH:MM:SS and thousandths; beyond 99 hours, the hours have more digits."""
    seconds, thousandths = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{point}{thousandths:03}"


def _text(text: Sequence[str]) -> str:
    return "".join(f"{line}\n" for line in text)
