"""Words with times -> segments that are as long as a subtitle.

How long that is, the Timed Text Style Guide of Netflix says: up to 7 s (General Requirements, 1), and up to two lines
of 42 characters (General Requirements, 4; English, 3). Between words, a segment ends where there is a long pause, else
where it would be too long: then at the longest pause of its second half. A "word" that does not fit into a line, as in
scripts without spaces, is cut between its characters in the same way.
"""

from __future__ import annotations

import math
import unicodedata
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from server.decoding.transcript import Piece, Transcript

MAX_SECONDS = 7.0
MAX_LINES = 2
LINE_COLUMNS = 42
# Readers make hardly any pauses that long, and those who speak freely where a thought ends (Campione and Véronis, A
# large-scale multilingual study of silent pause duration, 2002).
LONG_PAUSE_SECONDS = 1.0

# Whether the text of some pieces, one after the other, is not too long.
Fits = Callable[[Sequence[Piece]], bool]


def segments(transcript: Transcript) -> tuple[Piece, ...]:
    """Return the segments of `transcript`: those that it has, or else what its words make. None is without text.

    They are in the order of their times, as the words are. Raises ValueError where there are neither.
    """
    if transcript.segments is not None:
        return tuple(one for one in transcript.segments if one.text.strip())
    if transcript.words is None:
        raise ValueError("the transcript has neither segments nor words")
    return segments_of(transcript.words, lambda: transcript.chars or ())


def segments_of(words: Sequence[Piece], characters: Callable[[], Sequence[Piece]]) -> tuple[Piece, ...]:
    """Return the segments that `words` make; asked for only where one does not fit into a line: all `characters`."""
    words = [word for word in words if word.text.strip()]
    if not all(_is_short(word) for word in words):
        chars = characters()
        words = [part for word in words for part in _parts(word, chars)]
    return tuple(_join(run, " ") for run in _runs(words, _fit_lines))


def lines(words: Sequence[str]) -> list[str]:
    """Return `words` in lines, each filled before the next; a word that is longer than a line has its own."""
    filled: list[str] = []
    room = 0
    for word in words:
        needed = columns(word) + 1
        if needed <= room:
            filled[-1] += f" {word}"
        else:
            filled.append(word)
            room = LINE_COLUMNS + 1
        room -= needed
    return filled


def columns(text: str) -> int:
    """Return how wide `text` is; characters of Chinese, Japanese and Korean take two columns."""
    if text.isascii():
        return len(text)
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def _is_short(word: Piece) -> bool:
    return _fit_line([word]) and word.end - word.start <= MAX_SECONDS


def _parts(word: Piece, chars: Sequence[Piece]) -> Sequence[Piece]:
    """Return `word`, or pieces of it that fit into a line, if it does not and it has characters."""
    if _is_short(word):
        return (word,)
    first = bisect_left(chars, word.start, key=lambda char: char.start)
    last = bisect_left(chars, word.end, first, key=lambda char: char.start)
    return [_join(run, "") for run in _runs(chars[first:last], _fit_line)] or (word,)


def _runs(pieces: Sequence[Piece], fit: Fits) -> Iterator[Sequence[Piece]]:
    """Cut `pieces` into runs that `fit`, are short enough and have no long pause; a piece that does not is a run."""
    start = 0
    while start < len(pieces):
        end = start + 1
        while end < len(pieces) and _may_go_on(pieces[start : end + 1], fit):
            end += 1
        if end < len(pieces):
            end = _best_cut(pieces, start, end)
        yield pieces[start:end]
        start = end


def _may_go_on(run: Sequence[Piece], fit: Fits) -> bool:
    """Whether the last piece of `run` belongs to the others."""
    return _pause(run, -1) < LONG_PAUSE_SECONDS and run[-1].end - run[0].start <= MAX_SECONDS and fit(run)


def _best_cut(pieces: Sequence[Piece], start: int, end: int) -> int:
    """Return before which piece the pause is longest: of the second half of `start` to `end`, or `end` itself."""
    places = range(end, start + (end - start + 1) // 2 - 1, -1)
    return max(places, key=partial(_pause, pieces))


def _pause(pieces: Sequence[Piece], place: int) -> float:
    """Return the seconds before a piece, to the millisecond: equal pauses are equal."""
    return round(pieces[place].start - pieces[place - 1].end, 3)


def _fit_lines(words: Sequence[Piece]) -> bool:
    return len(lines([each for word in words for each in word.text.split()])) <= MAX_LINES


def _fit_line(chars: Sequence[Piece]) -> bool:
    return sum(columns(char.text) for char in chars) <= LINE_COLUMNS


def _join(pieces: Sequence[Piece], separator: str) -> Piece:
    text = separator.join(piece.text for piece in pieces)
    return Piece(text, pieces[0].start, pieces[-1].end, _confidence(pieces))


def _confidence(pieces: Sequence[Piece]) -> float | None:
    """Return the geometric mean of the confidences of `pieces` by their characters."""
    known = [(len(piece.text), math.log(piece.confidence)) for piece in pieces if piece.confidence]
    characters = sum(length for length, _ in known)
    return math.exp(sum(length * each for length, each in known) / characters) if known else None
