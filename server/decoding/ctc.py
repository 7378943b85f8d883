"""Greedy CTC: per-frame logits -> text."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.manifest import Ctc


@dataclass(frozen=True)
class Transcript:
    """A text, and how sure the model is of its best path, in (0, 1]; None for an empty text."""

    text: str
    confidence: float | None


class CtcDecoder:
    """Decodes the logits of one engine."""

    def __init__(self, ctc: Ctc) -> None:
        self._ctc = ctc
        # transformers groups tokens, not ids: ids that share a token are one.
        first = {token: index for index, token in reversed(list(enumerate(ctc.vocabulary)))}
        self._same = np.array([first[token] for token in ctc.vocabulary])
        self._blank = int(self._same[ctc.blank])
        self._skipped = np.zeros(len(ctc.vocabulary), bool)
        self._skipped[list(ctc.skipped)] = True
        # Special tokens too, for the tokenizer; yet the one keeps repeated tokens apart, the other becomes a space.
        kept = (ctc.vocabulary[ctc.blank], ctc.word_delimiter)
        self._skipped[[index for index, token in enumerate(ctc.vocabulary) if token in kept]] = False

    def greedy(self, logits: NDArray[np.float32]) -> Transcript:
        """Return the text of the best path through `logits` [frames, vocabulary].

        Special tokens are dropped, equal neighbours collapsed, blanks dropped, in this order: the text is that of
        decode() of transformers' CTC tokenizer on the best path without its special tokens. (Its
        `skip_special_tokens=True` drops the blank too before it collapses: "hello" becomes "helo".)

        The confidence is the geometric mean of the best token's probability over the frames that emit: those whose best
        token is neither blank nor special, repetitions included.
        """
        best = logits.argmax(axis=1)
        spoken = np.flatnonzero(~self._skipped[best])
        path = self._same[best[spoken]]
        starts = np.ones(path.shape, bool)
        starts[1:] = path[1:] != path[:-1]
        emits = path != self._blank
        text = self._text(path[starts & emits])
        return Transcript(text, self._confidence(logits[spoken[emits]]) if text else None)

    def _text(self, ids: NDArray[np.intp]) -> str:
        ctc = self._ctc
        tokens = (ctc.vocabulary[index] for index in ids)
        text = "".join(ctc.replace_word_delimiter if token == ctc.word_delimiter else token for token in tokens).strip()
        return text.lower() if ctc.lowercase else text

    @staticmethod
    def _confidence(logits: NDArray[np.float32]) -> float:
        """Return exp(mean over rows of max(log_softmax))."""
        below = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
        return float(np.exp(-np.log(np.exp(below).sum(axis=1)).mean()))
