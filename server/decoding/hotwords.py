"""Words that are likely to be said: what each token adds to the score of the text before it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from server.decoding.ctc import CtcDecoder
from server.errors import quoted

EDGE = " "  # where a word begins and ends, in the patterns


class Hotwords:
    """The words, and how far a text is into one of them.

    A text earns `weight` for each hotword, and while it is in one the share of it that is there: less the longer the
    word still is, and withdrawn where the text goes on otherwise. Case does not count. A word is whole words of the
    text, between delimiters; where the vocabulary has none, it may begin and end anywhere.

    A state is the end of the text that a hotword begins with.
    """

    def __init__(self, decoder: CtcDecoder, words: Iterable[str], weight: float) -> None:
        """Raise ValueError for a word that the vocabulary cannot spell."""
        self._spelling = [EDGE if token == decoder.space else token.lower() for token in decoder.spelling]
        for token in (decoder.blank, *np.flatnonzero(decoder.skipped)):
            self._spelling[token] = ""
        edge = EDGE if EDGE in self._spelling else ""
        self._weight = weight
        self._words = {f"{edge}{word}{edge}" for word in cleaned(words)}
        # Of what a hotword begins with, the largest share that it is of one; the edge before it is not counted.
        self._shares = {"": 0.0, edge: 0.0}
        for word in self._words:
            length = len(word.strip())
            for end in range(len(edge) + 1, len(word)):
                share = (end - len(edge)) / length
                self._shares[word[:end]] = max(share, self._shares.get(word[:end], 0.0))
        self._check()
        self._steps: dict[tuple[str, int], tuple[str, float]] = {}
        self.begin = edge

    def step(self, state: str, token: int) -> tuple[str, float]:
        """Return the state after `token`, and what was earned by it for good."""
        found = self._steps.get((state, token))
        if found is None:
            found = self._steps[state, token] = self._read(state, self._spelling[token])
        return found

    def bonus(self, tokens: Iterable[int]) -> float:
        """Return what all of a text earns."""
        state, total = self.begin, 0.0
        for token in tokens:
            state, earned = self.step(state, token)
            total += earned
        return total + self._read(state, EDGE)[1]  # its end is that of its last word

    def share(self, state: str) -> float:
        """Return what the hotword counts that the text is in."""
        return self._weight * self._shares[state]

    def _read(self, state: str, spelled: str) -> tuple[str, float]:
        earned = 0.0
        for character in spelled:
            grown = state + character
            earned += self._weight * any(grown[start:] in self._words for start in range(len(grown)))
            while grown not in self._shares:
                grown = grown[1:]
            state = grown
        return state, earned

    def _check(self) -> None:
        """Raise ValueError for a word that no tokens spell."""
        spelled = set(self._spelling) - {""}
        longest = max(map(len, spelled), default=0)
        for word in sorted(self._words):
            ends = {0}
            for start in range(len(word)):
                if start in ends:
                    tried = range(start + 1, min(start + longest, len(word)) + 1)
                    ends |= {end for end in tried if word[start:end] in spelled}
            if len(word) not in ends:
                raise ValueError(f"the model cannot spell {quoted(word.strip())}")


def cleaned(words: Iterable[str]) -> set[str]:
    """Return `words` in lower case with single spaces, without empty ones."""
    return {" ".join(word.lower().split()) for word in words} - {""}
