"""CTC: the best path through the frames -> what it emits -> text, words and characters with their times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from engines.manifest import Ctc
from server.decoding.transcript import Piece

IDS, LOG_PROBS = "ids", "log_probs"  # of a path: the best id of each frame, and its log-probability
PATH_BYTES = 8  # of each frame
EMISSION_BYTES = 40  # of a token, of which a frame has one at most


@dataclass(frozen=True)
class Emissions:
    """The tokens that a path emits: an entry in each array [tokens] for each, in the order of time.

    A token is emitted from frame `starts` up to before frame `ends`; `frames` of these emit it, the others are of
    special tokens, and `log_probs` is the sum of its log-probability over them.
    """

    tokens: NDArray[np.int64]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    frames: NDArray[np.int64]
    log_probs: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, which: slice | NDArray[np.bool_]) -> Emissions:
        """Return some of the tokens."""
        starts, ends = self.starts[which], self.ends[which]
        return Emissions(self.tokens[which], starts, ends, self.frames[which], self.log_probs[which])

    @property
    def confidence(self) -> float | None:
        """The geometric mean of the tokens' probabilities over the frames that emit them; None where none does."""
        frames = int(self.frames.sum())
        return float(np.exp(self.log_probs.sum() / frames)) if frames else None

    @classmethod
    def join(cls, parts: Sequence[Emissions]) -> Self:
        """Return `parts`, one at least, which follow one another."""
        return cls(
            np.concatenate([part.tokens for part in parts]),
            np.concatenate([part.starts for part in parts]),
            np.concatenate([part.ends for part in parts]),
            np.concatenate([part.frames for part in parts]),
            np.concatenate([part.log_probs for part in parts]),
        )


class CtcDecoder:
    """Decodes the logits of one engine, as decode() of transformers' CTC tokenizer decodes the best path.

    Special tokens are dropped, equal neighbours collapsed, blanks dropped, in this order: the text, and the first and
    last frame of its characters and words, are those of `decode(path, output_char_offsets=True,
    output_word_offsets=True)` on the path without its special tokens; a frame is counted where it is in the path with
    them. Two things are not as there:

    - its `skip_special_tokens=True` drops the blank too before it collapses: "hello" becomes "helo". Without it, as in
      its pipeline, special tokens are spelled out: "<s>hello".
    - where the checkpoint asks for lower case, transformers lowers the text alone; here, words and characters too.
    """

    def __init__(self, ctc: Ctc) -> None:
        self._ctc = ctc
        self.vocabulary_size = len(ctc.vocabulary)
        # transformers groups tokens, not ids: ids that share a token are one.
        first = {token: index for index, token in reversed(list(enumerate(ctc.vocabulary)))}
        self.same = np.array([first[token] for token in ctc.vocabulary])
        self.blank = int(self.same[ctc.blank])
        self.skipped = np.zeros(len(ctc.vocabulary), bool)
        self.skipped[list(ctc.skipped)] = True
        # Special tokens too, for the tokenizer; yet the one keeps repeated tokens apart, the other becomes a space.
        kept = (ctc.vocabulary[ctc.blank], ctc.word_delimiter)
        self.skipped[[index for index, token in enumerate(ctc.vocabulary) if token in kept]] = False
        self.space = ctc.replace_word_delimiter
        self.spelling = tuple(self.space if token == ctc.word_delimiter else token for token in ctc.vocabulary)

    @staticmethod
    def path(logits: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """Return the best path through `logits` [frames, vocabulary]: int32 ids and float32 log_probs, both [frames].

        Paths through windows that follow one another are the path through all their frames.
        """
        top = logits.max(axis=1, keepdims=True)
        below = np.subtract(logits, top, dtype=np.float64)
        np.exp(below, out=below)
        return {IDS: logits.argmax(axis=1).astype(np.int32), LOG_PROBS: -np.log(below.sum(axis=1)).astype(np.float32)}

    def emissions(self, ids: NDArray[np.int32], log_probs: NDArray[np.float32]) -> Emissions:
        """Return what a path emits: the best ids [frames], and their log-probabilities."""
        spoken = np.flatnonzero(~self.skipped[ids])
        path = self.same[ids[spoken]]
        starts = np.flatnonzero(np.diff(path, prepend=-1))
        ends = np.append(starts, len(path))[1:]
        sums = np.add.reduceat(log_probs[spoken], starts, dtype=np.float64)
        runs = Emissions(path[starts], spoken[starts], spoken[ends - 1] + 1, ends - starts, sums)
        return runs[runs.tokens != self.blank]

    def greedy(self, logits: NDArray[np.float32]) -> Emissions:
        """Return what the best path through `logits` [frames, vocabulary] emits."""
        return self.emissions(**self.path(logits))

    def text(self, tokens: NDArray[np.int64]) -> str:
        """Return what `tokens` spell, without spaces around it."""
        return self.spelled(tokens).strip()

    def spelled(self, tokens: NDArray[np.int64]) -> str:
        """Return what `tokens` spell."""
        text = "".join(self.spelling[token] for token in tokens.tolist())
        return text.lower() if self._ctc.lowercase else text

    def characters(self, found: Emissions, frame_seconds: float) -> tuple[Piece, ...]:
        """Return each token that was emitted, spaces between words included, with its times."""
        places = np.arange(len(found))
        return self._pieces(found, np.stack((places, places + 1), axis=1), frame_seconds)

    def words(self, found: Emissions, frame_seconds: float) -> tuple[Piece, ...]:
        """Return what stands between the word delimiters, each from its first character to the end of its last."""
        bounds = np.array(list(self._bounds(found.tokens)), np.int64).reshape(-1, 2)
        return self._pieces(found, bounds, frame_seconds)

    def _bounds(self, tokens: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
        """Yield where each word begins, and where it ends."""
        first = 0
        for place, token in enumerate([*tokens.tolist(), None]):
            if token is None or self.spelling[token] == self.space:
                if place > first:
                    yield first, place
                first = place + 1

    def _pieces(self, found: Emissions, bounds: NDArray[np.int64], frame_seconds: float) -> tuple[Piece, ...]:
        """Return the tokens from the one to the other of `bounds` [pieces, 2], which lie one behind the other."""
        texts = [self.spelled(found.tokens[first:last]) for first, last in bounds.tolist()]
        starts, ends = found.starts[bounds[:, 0]] * frame_seconds, found.ends[bounds[:, 1] - 1] * frame_seconds
        log_probs, frames = (
            np.add.reduceat(np.append(values, 0), bounds.ravel())[::2] if len(bounds) else values[:0]
            for values in (found.log_probs, found.frames)
        )
        sure = np.exp(log_probs / frames)
        return tuple(map(Piece, texts, starts.tolist(), ends.tolist(), sure.tolist()))


class Increments:
    """What each piece of a best path adds to the text: one after the other, it is that of the whole path."""

    def __init__(self, decoder: CtcDecoder) -> None:
        self._decoder = decoder
        self._last = -1  # the token of the last frame that was not skipped
        self._begun = False
        self._held = ""  # spaces: no text ends with them

    def add(self, ids: NDArray[np.int32]) -> str:
        """Return what the best `ids` [frames], which follow those before, add to the text."""
        decoder = self._decoder
        path = decoder.same[ids[~decoder.skipped[ids]]]
        emitted = path[(np.diff(path, prepend=self._last) != 0) & (path != decoder.blank)]
        if len(path):
            self._last = int(path[-1])
        spelled = self._held + decoder.spelled(emitted)
        if not self._begun:
            spelled = spelled.lstrip()
        found = spelled.rstrip()
        self._held = spelled[len(found) :]
        self._begun = self._begun or bool(found)
        return found
