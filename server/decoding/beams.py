"""Prefix beam search through the frames of a CTC model.

Why this is not a library's: pyctcdecode has had no release since 2023 and wants numpy below 2; flashlight-text has no
wheels after Python 3.12, keeps the best path of a text in place of their sum, and knows no hotwords; the decoder of
torchaudio, k2 and asr-decoder need torch. ctc-beam-decoder (C++, Apache-2.0, 0.2.0 of August 2026) is alive and does
most of it, but gives texts, not the tokens that an exact sum and an alignment need, knows spaces alone as delimiters
and no special tokens that are dropped, and comes without source, on Linux for x86-64 with glibc 2.35 and later only.

A beam is a text with two log-probabilities: of the paths that give it and end in a blank, and of those that end in its
last token (Hannun et al. 2014, First-Pass Large Vocabulary Continuous Speech Recognition using Bi-Directional Recurrent
DNNs, algorithm 1). A frame in which no token but the blank is likely leaves the beams as they are.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from server.decoding.alignment import Tokens
from server.decoding.frames import NEVER, Frames
from server.decoding.hotwords import Hotwords
from server.decoding.search import top_k

# A token that is less likely in a frame does not begin there, unless it is the best. On the demo's held-out test, the
# best texts are the same with 0.0001 and with 0.01; hotwords may ask for what is less likely than those.
UNLIKELY = 1e-3


@dataclass
class Texts:
    """All texts that were ever a beam, as a tree: each is another one and a token. The empty one is 0."""

    parents: list[int] = field(default_factory=lambda: [-1])
    tokens: list[int] = field(default_factory=lambda: [-1])
    children: dict[tuple[int, int], int] = field(default_factory=dict)

    def child(self, parent: int, token: int) -> int:
        """Return `parent` with `token` after it."""
        found = self.children.get((parent, token))
        if found is None:
            found = self.children[parent, token] = len(self.tokens)
            self.parents.append(parent)
            self.tokens.append(token)
        return found

    def written(self, text: int) -> Tokens:
        """Return the tokens of a text."""
        found = []
        while text:
            found.append(self.tokens[text])
            text = self.parents[text]
        return np.array(found[::-1], np.int64)


class Beams:
    """The best texts so far, with arrays [beams]: the search, frame by frame.

    `blank` and `token` are the log-probabilities of the paths that give a text and end in a blank, or in its `last`
    token; `earned` is what its hotwords add for good, and `states` tells which it is in.
    """

    def __init__(self, width: int, blank: int, hotwords: Hotwords | None) -> None:
        """Begin with the empty text. `blank` is a column of the frames to come."""
        self._width, self._column, self._hotwords = width, blank, hotwords
        self._all = Texts()
        self.texts, self.last = np.zeros(1, np.int64), np.full(1, -1)
        self.blank, self.token = np.zeros(1), np.full(1, NEVER)
        self.states, self.earned = [hotwords.begin if hotwords else ""], np.zeros(1)

    def written(self) -> list[Tokens]:
        """Return the tokens of each text."""
        return [self._all.written(text) for text in self.texts.tolist()]

    def advance(self, emit: NDArray[np.float64], skip: float, begins: NDArray[np.int64]) -> None:
        """Take one frame, in which only the tokens `begins`, if any, may follow a text."""
        whole = np.logaddexp(self.blank, self.token)
        ended = self.blank
        self.blank = np.logaddexp(whole + emit[self._column], self.blank + skip)
        self.token = self.token + np.logaddexp(emit[self.last], skip)
        if len(begins):
            # A token that is the last one too begins anew after a blank only.
            before = np.where(begins == self.last[:, None], ended[:, None], whole[:, None])
            self._choose(self._merged(before + emit[begins], begins), begins)

    def _merged(self, longer: NDArray[np.float64], begins: NDArray[np.int64]) -> NDArray[np.float64]:
        """Add to the beams what `longer` [beams, begins] gives to their texts; return what is left of it."""
        parents = np.array([self._all.parents[text] for text in self.texts.tolist()])
        child, parent = np.nonzero(parents[:, None] == self.texts)
        place = np.searchsorted(begins, self.last[child])
        there = begins[np.minimum(place, len(begins) - 1)] == self.last[child]
        child, parent, place = child[there], parent[there], place[there]
        self.token[child] = np.logaddexp(self.token[child], longer[parent, place])
        longer[parent, place] = NEVER
        return longer

    def _choose(self, longer: NDArray[np.float64], begins: NDArray[np.int64]) -> None:
        """Keep the best of the beams and of their texts with one of `begins` after them."""
        count = len(self.texts)
        scores = np.concatenate([np.logaddexp(self.blank, self.token), longer.ravel()])
        steps = self._steps(begins)
        best = top_k(scores + self._bonus(steps), self._width)
        best = best[scores[best] > NEVER / 2]
        kept, (parents, places) = best[best < count], np.divmod(best[best >= count] - count, len(begins))
        tokens = begins[places]
        texts = [self._all.child(*both) for both in zip(self.texts[parents].tolist(), tokens.tolist(), strict=True)]
        self.texts = np.append(self.texts[kept], np.array(texts, np.int64))
        self.last = np.append(self.last[kept], tokens)
        self.blank = np.append(self.blank[kept], np.full(len(tokens), NEVER))
        self.token = np.append(self.token[kept], longer[parents, places])
        if steps:
            new = [steps[parent][place] for parent, place in zip(parents.tolist(), places.tolist(), strict=True)]
            self.earned = np.append(self.earned[kept], self.earned[parents] + [earned for _, earned in new])
            self.states = [*(self.states[place] for place in kept.tolist()), *(state for state, _ in new)]

    def _steps(self, begins: NDArray[np.int64]) -> list[list[tuple[str, float]]]:
        """Return for each beam what each of `begins` would do to its hotwords; nothing without any."""
        if self._hotwords is None:
            return []
        tokens = begins.tolist()
        return [[self._hotwords.step(state, token) for token in tokens] for state in self.states]

    def _bonus(self, steps: list[list[tuple[str, float]]]) -> NDArray[np.float64] | float:
        """Return what the hotwords add to each beam, and to each with a token after it."""
        if self._hotwords is None:
            return 0.0
        share = self._hotwords.share
        longer = [
            before + earned + share(state)
            for before, row in zip(self.earned.tolist(), steps, strict=True)
            for state, earned in row
        ]
        return np.array([*(self.earned + [share(state) for state in self.states]), *longer])


def search(frames: Frames, width: int, hotwords: Hotwords | None = None, unlikely: float = UNLIKELY) -> list[Tokens]:
    """Return the `width` best texts that were found, or fewer, in no order.

    A token whose probability in a frame is below `unlikely` does not begin there, unless it is the best.
    """
    begins = frames.emit >= (np.log(unlikely) if unlikely else NEVER)
    begins[np.arange(len(frames)), frames.emit.argmax(axis=1)] = True
    begins[:, frames.blank] = False
    beams = Beams(width, frames.blank, hotwords)
    for emit, skip, likely in zip(frames.emit, frames.skip.tolist(), begins, strict=True):
        beams.advance(emit, skip, np.flatnonzero(likely))
    return beams.written()
