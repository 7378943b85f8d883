"""The paths of the windows of a stream -> final texts, as soon as nothing can change them.

Put together, they are the text of the whole path. What later frames may change is held back: the last word, unless a
pause follows it. A word that goes on behind such a pause is two, which is all that is not as in the whole.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.manifest import Ctc
from server.decoding.ctc import IDS, LOG_PROBS, CtcDecoder, Emissions
from server.decoding.transcript import Piece

# As CtcDecoder.path gives it, of the frames that are a window's own.
Path = dict[str, NDArray[Any]]

# Within a word, the letters of slow speech are some 0.3 s apart.
PAUSE_SECONDS = 1.0
# No word takes as long: what seems to is not one, such as music.
LONGEST_WORD_SECONDS = 5.0


@dataclass(frozen=True)
class Text(Piece):
    """A piece of a stream's text; `words` are None where nobody asked for them."""

    words: tuple[Piece, ...] | None = None


class Texts:
    """The text of one stream, for an engine that labels frames."""

    def __init__(self, ctc: Ctc, frame_seconds: float, with_words: bool = False) -> None:
        self._decoder = CtcDecoder(ctc)
        self._frame_seconds = frame_seconds
        self._with_words = with_words
        self._has_words = self._decoder.space in self._decoder.spelling
        self._open: Path = {IDS: np.zeros(0, np.int32), LOG_PROBS: np.zeros(0, np.float32)}  # frames with no final text
        self._frames = 0  # before these
        self._has_begun = False  # the text
        self._spaces = ""  # at the end of the last piece: none is left at the end of the text

    def partial(self, path: Path) -> Text:
        """Return what the frames that are open and those of `path` say."""
        frames = self._with(path)
        found = self._decoder.emissions(frames[IDS], frames[LOG_PROBS])
        end = self._frames + len(frames[IDS])
        return Text(self._piece(found)[0], self._frames * self._frame_seconds, end * self._frame_seconds, None)

    def final(self, path: Path, is_last: bool = False) -> Text:
        """Take in the `path` of the next window; return what does not change any more: everything at the last."""
        self._open = self._with(path)
        found = self._decoder.emissions(self._open[IDS], self._open[LOG_PROBS])
        return self._take(found, len(self._open[IDS]) if is_last else self._settled(found))

    def _with(self, path: Path) -> Path:
        return {name: np.concatenate((values, path[name])) for name, values in self._open.items()}

    def _settled(self, found: Emissions) -> int:
        """Return how many of the open frames no later one changes; the others begin where another token does."""
        frames = len(self._open[IDS])
        if not len(found):
            return frames
        # Behind a special token alone, the same token would still be the same one.
        is_closed = not self._decoder.skipped[self._open[IDS][found.ends[-1] :]].all()
        all_but_the_last = frames if is_closed else int(found.starts[-1])
        seconds, pause = (count * self._frame_seconds for count in (frames, frames - found.ends[-1]))
        if not self._has_words or pause >= PAUSE_SECONDS:
            return all_but_the_last
        spaces = [place for place, token in enumerate(found.tokens.tolist()) if self._is_space(token)]
        if not spaces:
            return all_but_the_last if seconds >= LONGEST_WORD_SECONDS else 0
        return int(found.ends[spaces[-1]]) if spaces[-1] < len(found) - 1 else all_but_the_last

    def _take(self, found: Emissions, frames: int) -> Text:
        """Give out the tokens in the first of the open `frames`."""
        taken = found[found.starts < frames]
        text, self._spaces = self._piece(taken)
        self._has_begun = self._has_begun or bool(text)
        start, end = self._frames, self._frames + frames
        placed = replace(taken, starts=taken.starts + start, ends=taken.ends + start)
        words = self._decoder.words(placed, self._frame_seconds) if self._with_words else None
        self._open = {name: values[frames:].copy() for name, values in self._open.items()}
        self._frames = end
        confidence = taken.confidence if text else None
        return Text(text, start * self._frame_seconds, end * self._frame_seconds, confidence, words)

    def _piece(self, found: Emissions) -> tuple[str, str]:
        """Return what `found` adds to the text, and the spaces behind it, which are only there if more follows."""
        text = self._spaces + self._decoder.spelled(found.tokens)
        text = text if self._has_begun else text.lstrip()
        stripped = text.rstrip()
        return stripped, text[len(stripped) :]

    def _is_space(self, token: int) -> bool:
        return self._decoder.spelling[token] == self._decoder.space
