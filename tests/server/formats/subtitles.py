"""Readers of SubRip and WebVTT, as strict as the formats are."""

import html
import re

CLOCK = r"(\d{2,}):([0-5]\d):([0-5]\d)[.,](\d{3})"

Cue = tuple[int, int, list[str]]


def read_srt(document: str) -> list[Cue]:
    """Return the subtitles: times in milliseconds, and lines."""
    blocks = document.removesuffix("\n").split("\n\n") if document else []
    cues = []
    for number, block in enumerate(blocks, 1):
        first, times, *text = block.split("\n")
        assert first == str(number)
        cues.append((*_times(times, ","), text))
    return cues


def read_vtt(document: str) -> list[Cue]:
    """Return the subtitles: times in milliseconds, and lines without the escapes."""
    head, *blocks = document.removesuffix("\n").split("\n\n")
    assert head == "WEBVTT"
    cues = []
    for block in blocks:
        times, *text = block.split("\n")
        assert not any("-->" in line or "<" in line for line in text)
        cues.append((*_times(times, "."), [html.unescape(line) for line in text]))
    return cues


def _times(line: str, point: str) -> tuple[int, int]:
    found = re.fullmatch(f"{CLOCK} --> {CLOCK}", line)
    assert found, line
    assert line.count(point) == 2
    hours, minutes, seconds, thousandths, *end = (int(group) for group in found.groups())
    start = ((hours * 60 + minutes) * 60 + seconds) * 1000 + thousandths
    return start, ((end[0] * 60 + end[1]) * 60 + end[2]) * 1000 + end[3]
