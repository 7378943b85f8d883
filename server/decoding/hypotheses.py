"""The likeliest texts of a clip of any length: found by beam search, ranked by CTC's own sum, and aligned.

What is longer than PIECE_SECONDS is cut in its pauses, and each piece is searched by itself: the sum over the paths of
n tokens through t frames takes n x t steps, which would grow with the square of a clip's length. The texts of a clip
are then the best combinations of those of its pieces, whose scores add up.

With 16 beams, the demo's held-out test takes 15 ms of processor time for a second of audio: 8 for the search, 6 for the
sums, 1 for the alignment. `sonant bench timestamps` measures it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from server.decoding.alignment import Tokens, align, log_likelihoods
from server.decoding.beams import search
from server.decoding.ctc import CtcDecoder, Emissions
from server.decoding.frames import Columns
from server.decoding.hotwords import Hotwords
from server.decoding.search import best_sums
from server.steps import Steps

# Most clips are shorter; of those that are not, every five seconds have a pause between two words.
PIECE_SECONDS = 15.0
PAUSE_SHARE = 1 / 3  # of a piece, at its end: where the longest pause is looked for


@dataclass(frozen=True)
class Candidate:
    """What may have been said: what the best path of the tokens emits.

    `score` is the log-probability of the tokens, summed over all paths that give them, and what the hotwords add.
    """

    score: float
    emissions: Emissions


class BeamDecoder:
    """Finds the likeliest texts in the logits of one engine."""

    def __init__(self, decoder: CtcDecoder, width: int, hotwords: Hotwords | None, piece_frames: int) -> None:
        """Keep `width` beams in each piece of up to `piece_frames`, of which there are 3 at least."""
        self._decoder, self._columns = decoder, Columns(decoder)
        self._width, self._hotwords, self._piece_frames = width, hotwords, piece_frames

    def decode(self, parts: Iterable[NDArray[np.float32]], count: int) -> Steps[list[Candidate]]:
        """Return the `count` likeliest texts in `parts`, or fewer, best first: no two are alike. A step is a piece.

        `parts` are logits [frames, vocabulary] that follow one another. What the best path says is always among the
        texts that are compared, so the first never scores below it.
        """
        found, offset = [], 0
        for piece, is_last in self._pieces(parts):
            yield
            found.append(self._decode(piece, offset, is_last, count))
            offset += len(piece)
        best = best_sums([[one.score for one in texts] for texts in found], count)
        return [Candidate(score, Emissions.join(chosen(found, places))) for score, places in best]

    def _decode(self, logits: NDArray[np.float32], offset: int, is_last: bool, count: int) -> list[Candidate]:
        """Return the likeliest texts of the piece that begins in frame `offset`."""
        log_probabilities = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True, dtype=np.float64)
        frames = self._columns.frames(log_probabilities)
        greedy = self._columns.of(self._decoder.greedy(logits).tokens)
        texts = [greedy, *(text for text in search(frames, self._width, self._hotwords) if not same(text, greedy))]
        scores = log_likelihoods(frames, texts) + [self._bonus(text) for text in texts]
        found: dict[str, Candidate] = {}
        ways = self._columns.frames(log_probabilities, np.maximum)
        for place in np.argsort(-scores, kind="stable"):
            spelled = self._spelled(texts[place], is_first=offset == 0, is_last=is_last)
            if spelled not in found and len(found) < count:
                emissions = align(ways, texts[place])
                found[spelled] = Candidate(float(scores[place]), self._placed(emissions, offset))
        return list(found.values())

    def _bonus(self, text: Tokens) -> float:
        """Return what the hotwords of a text add to its score."""
        return self._hotwords.bonus(self._columns.ids[text].tolist()) if self._hotwords else 0.0

    def _spelled(self, text: Tokens, *, is_first: bool, is_last: bool) -> str:
        """Return what tells a piece from others: spaces where it joins its neighbours count."""
        spelled = self._decoder.spelled(self._columns.ids[text])
        spelled = spelled.lstrip() if is_first else spelled
        return spelled.rstrip() if is_last else spelled

    def _placed(self, found: Emissions, offset: int) -> Emissions:
        """Return ids in place of columns, in the frames of the clip."""
        starts, ends = found.starts + offset, found.ends + offset
        return Emissions(self._columns.ids[found.tokens], starts, ends, found.frames, found.log_probs)

    def _pieces(self, parts: Iterable[NDArray[np.float32]]) -> Iterator[tuple[NDArray[np.float32], bool]]:
        """Yield the pieces, and whether each is the last. The parts are not held all at a time."""
        waiting = None
        for part in parts:
            waiting = part if waiting is None else np.concatenate([waiting, part])
            while len(waiting) > self._piece_frames:
                end = self._end(waiting[: self._piece_frames])
                yield waiting[:end], False
                waiting = waiting[end:]
        if waiting is not None:
            yield waiting, True

    def _end(self, logits: NDArray[np.float32]) -> int:
        """Return the frame before which a piece ends: the middle of the longest run of blanks, the last of several.

        Where there is none, it is the frame in which the blank is the likeliest.
        """
        first = len(logits) - int(PAUSE_SHARE * len(logits))
        last = logits[first:]
        quiet = self._decoder.same[last.argmax(axis=1)] == self._decoder.blank
        runs = np.flatnonzero(np.diff(quiet, prepend=False, append=False)).reshape(-1, 2)
        if not len(runs):
            blank = last[:, self._decoder.blank] - np.logaddexp.reduce(last, axis=1)
            return first + int(blank.argmax())
        start, end = max(runs.tolist(), key=lambda run: (run[1] - run[0], run[0]))
        return first + (start + end) // 2


def chosen(found: Sequence[Sequence[Candidate]], places: Sequence[int]) -> list[Emissions]:
    """Return what one candidate of each piece emits."""
    return [texts[place].emissions for texts, place in zip(found, places, strict=True)]


def same(one: Tokens, other: Tokens) -> bool:
    """Whether two texts are of the same tokens."""
    return np.array_equal(one, other)
