"""Which tokens a decoder writes next: one object for each clip, fed with logits until the text has ended.

Without sampling, the tokens are those that `generate` of transformers 5 (GenerationMixin._sample and ._beam_search)
writes about the clip alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.manifest import Generation, Search
from server.decoding.processors import is_forced, make_processors

# The score of a beam that stands for none: below that of any text, yet finite. transformers has the same.
NONE_YET = np.float32(-1e9)
GROUP = 64  # of the scores that are looked through for the best


@dataclass(frozen=True)
class Hypothesis:
    """What may have been said.

    `tokens` are without the start token. Hypotheses are ranked by `score`: the sum of the tokens' log-probabilities, by
    their count to the power of the length penalty. `confidence` is the geometric mean of the probabilities that the
    model itself gave to the tokens, with the one that ends the text and without those that were forced; None if all
    were.
    """

    tokens: tuple[int, ...]
    score: float
    confidence: float | None


class Searcher(ABC):
    """The search for the text of one clip. The engine takes `tokens` and `parents`; `advance` takes the logits."""

    def __init__(self, generation: Generation, search: Search, seed: int | None = None) -> None:
        """Begin; `seed` makes sampling repeatable."""
        self._search = search
        self._eos_tokens = np.array(generation.eos_tokens, np.int64)
        self._processors = make_processors(search, generation.eos_tokens)
        self._random = np.random.default_rng(seed) if search.do_sample else None
        self._written = np.full((search.num_beams, 1), generation.start_token, np.int64)
        self._certainty = np.zeros(search.num_beams)  # the model's log-probability of each beam, forced tokens aside
        self.parents = np.zeros(search.num_beams, np.int64)

    @property
    def tokens(self) -> NDArray[np.int64]:
        """The last token of each beam."""
        return self._written[:, -1]

    @property
    def length(self) -> int:
        """How many tokens are written, the start token included."""
        return self._written.shape[1]

    @abstractmethod
    def advance(self, logits: NDArray[np.float32]) -> bool:
        """Write the next tokens by `logits` [beams, vocabulary], which are finite. Return whether the search ends."""

    @property
    @abstractmethod
    def hypotheses(self) -> list[Hypothesis]:
        """What was found, once the search has ended, best first: one at least, and at most one for each beam."""

    def _process(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        scores = scores.copy()
        for process in self._processors:
            process(self._written, scores)
        return scores

    def _stir(self, scores: NDArray[np.float32]) -> NDArray[np.floating]:
        """Return `scores`, for sampling plus Gumbel noise: its k best are then k draws without replacement."""
        return scores if self._random is None else scores + self._random.gumbel(size=scores.shape)

    def _ends(self, tokens: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return for each of `tokens` whether it is the last of its text."""
        return np.isin(tokens, self._eos_tokens) | (self.length + 1 >= self._search.max_length)

    def _certainties(
        self, log_probabilities: NDArray[np.float32], beams: NDArray[np.int64], tokens: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Return the model's log-probability of `beams` with `tokens` after them."""
        forced = is_forced(self._search, self.length)
        return self._certainty[beams] + (0 if forced else log_probabilities[beams, tokens])

    def _write(self, beams: NDArray[np.int64], tokens: NDArray[np.int64], certainty: NDArray[np.float64]) -> None:
        """Go on with `tokens` after `beams`."""
        self._written = np.concatenate([self._written[beams], tokens[:, None]], axis=1)
        self._certainty = certainty
        self.parents = beams

    def _hypothesis(self, written: NDArray[np.int64], score: float, certainty: float) -> Hypothesis:
        tokens = written[1:].tolist()
        chosen = sum(not is_forced(self._search, length) for length in range(1, len(written)))
        return Hypothesis(tuple(tokens), score, float(np.exp(certainty / chosen)) if chosen else None)


class GreedySearch(Searcher):
    """Takes the best token each time, or draws one: `num_beams` is 1."""

    def advance(self, logits: NDArray[np.float32]) -> bool:
        """Write the best token."""
        beams, tokens = np.zeros(1, np.int64), self._stir(self._process(logits)).argmax(axis=1)
        ended = bool(self._ends(tokens)[0])
        self._write(beams, tokens, self._certainties(log_softmax(logits), beams, tokens))
        return ended

    @property
    def hypotheses(self) -> list[Hypothesis]:
        """The one text."""
        certainty = float(self._certainty[0])
        score = certainty / (self.length - 1) ** self._search.length_penalty
        return [self._hypothesis(self._written[0], score, certainty)]


class BeamSearch(Searcher):
    """Keeps the `num_beams` best beginnings, and of the texts that have ended as many."""

    def __init__(self, generation: Generation, search: Search, seed: int | None = None) -> None:
        super().__init__(generation, search, seed)
        # At first all beams are alike, and only one of them may count.
        self._scores: NDArray[np.float32] = np.full(search.num_beams, NONE_YET, np.float32)
        self._scores[0] = 0
        self._ended: list[Hypothesis] = []
        # So many that as many as there are beams go on, even if each beam's best tokens are those that end it.
        self._candidates = max(2, 1 + len(generation.eos_tokens)) * search.num_beams

    def advance(self, logits: NDArray[np.float32]) -> bool:
        """Write the tokens after the beams that make the best beginnings."""
        log_probabilities = log_softmax(logits)
        totals = (self._process(log_probabilities) + self._scores[:, None]).ravel()
        best = top_k(self._stir(totals), self._candidates)
        scores = totals[best]
        beams, tokens = np.divmod(best, logits.shape[1])
        ends = self._ends(tokens)
        certainties = self._certainties(log_probabilities, beams, tokens)

        for place in np.flatnonzero(ends[: self._search.num_beams]):
            if scores[place] > NONE_YET / 2:
                written = np.append(self._written[beams[place]], tokens[place])
                self._keep(self._hypothesis(written, self._penalized(scores[place]), certainties[place]))
        running: NDArray[np.float32] = scores + np.where(ends, NONE_YET, np.float32(0))
        on = top_k(running, self._search.num_beams)
        has_ended = bool(ends.all()) or not self._may_improve(running[on[0]])
        self._write(beams[on], tokens[on], certainties[on])
        self._scores = running[on]
        return has_ended

    @property
    def hypotheses(self) -> list[Hypothesis]:
        """The texts that have ended; an empty one if what is suppressed left none."""
        return self._ended or [Hypothesis((), float(NONE_YET), None)]

    def _keep(self, hypothesis: Hypothesis) -> None:
        ranked = sorted([*self._ended, hypothesis], key=lambda one: -one.score)
        self._ended = ranked[: self._search.num_beams]

    def _penalized(self, score: np.float32, length: int | None = None) -> float:
        """Return `score` by the length penalty of `length` tokens, by default those of the texts that end now."""
        return float(score / (length or self.length) ** self._search.length_penalty)

    def _may_improve(self, best: np.float32) -> bool:
        """Whether the search goes on: whether a text may come of `best` that is better than the worst that has ended.

        As transformers' `_check_early_stop_heuristic`; its comment says why this is a guess unless `early_stopping` is
        "never".
        """
        search = self._search
        if len(self._ended) < search.num_beams:
            return bool(best > NONE_YET)
        longest = search.max_length - 1 if search.early_stopping == "never" and search.length_penalty > 0 else None
        return search.early_stopping is not True and self._penalized(best, longest) > self._ended[-1].score


@dataclass(frozen=True)
class Plan:
    """How a decoder shall write about clips. With a seed, what is sampled for a clip is the same each time."""

    generation: Generation
    search: Search
    seed: int | None = None

    @property
    def beams(self) -> int:
        """How many rows each clip has."""
        return self.search.num_beams

    def begin(self) -> Searcher:
        """Begin to search for the text of one clip."""
        return (BeamSearch if self.beams > 1 else GreedySearch)(self.generation, self.search, self.seed)


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the log-probabilities of the last axis."""
    below = logits - logits.max(axis=-1, keepdims=True)
    below -= np.log(np.exp(below).sum(axis=-1, keepdims=True))
    return np.asarray(below)


def top_k(values: NDArray[np.floating], count: int) -> NDArray[np.int64]:
    """Return where the `count` largest of `values` [n] are, the largest first, of equal ones the first; or all."""
    groups = values[: len(values) // GROUP * GROUP].reshape(GROUP, -1)
    if groups.shape[1] > count:
        # To sort them all takes long. Few are as large as the largest of each of `count` groups; they suffice.
        among = np.flatnonzero(values >= np.partition(groups.max(axis=0), -count)[-count])
    else:
        among = np.arange(len(values))
    return np.asarray(among[np.argsort(-values[among], kind="stable")[:count]], np.int64)


def best_sums(parts: Sequence[Sequence[float]], count: int) -> list[tuple[float, tuple[int, ...]]]:
    """Return the `count` largest sums of one score of each of `parts`, or all, and which they are of; largest first."""
    nothing: tuple[float, tuple[int, ...]] = (0.0, ())
    best = [nothing][:count]
    for scores in parts:
        sums = np.add.outer([before for before, _ in best], scores)
        pairs = [divmod(place, len(scores)) for place in top_k(sums.ravel(), count).tolist()]
        best = [(float(sums[before, place]), (*best[before][1], place)) for before, place in pairs]
    return best
