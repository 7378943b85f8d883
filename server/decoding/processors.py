"""What changes the scores of the next token before one is chosen: logits processors, as transformers names them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from engines.manifest import Search

Tokens = NDArray[np.int64]  # [beams, length], the start token included
Scores = NDArray[np.float32]  # [beams, vocabulary]
Processor = Callable[[Tokens, Scores], None]  # changes the scores in place

NEVER = np.float32(-np.inf)


def make_processors(search: Search, eos_tokens: Sequence[int]) -> tuple[Processor, ...]:
    """Return what `search` asks for, in the order of transformers' GenerationMixin._get_logits_processor."""
    return (*_constraints(search, eos_tokens), *_sampling(search, eos_tokens))


def is_forced(search: Search, length: int) -> bool:
    """Whether `search` leaves no choice of the token that follows `length` others, the start token included."""
    first = search.forced_bos_token_id is not None and length == 1
    return first or (search.forced_eos_token_id is not None and length == search.max_length - 1)


def _constraints(search: Search, eos_tokens: Sequence[int]) -> Iterator[Processor]:
    if search.repetition_penalty != 1:
        yield partial(penalize_repetition, search.repetition_penalty)
    if search.no_repeat_ngram_size:
        yield partial(forbid_repeated_ngrams, search.no_repeat_ngram_size)
    if search.min_length and eos_tokens:
        yield partial(forbid_before, search.min_length, eos_tokens)
    if search.forced_bos_token_id is not None:
        yield partial(force_at, 1, search.forced_bos_token_id)
    if search.forced_eos_token_id is not None:
        yield partial(force_at, search.max_length - 1, search.forced_eos_token_id)
    if search.suppress_tokens:
        yield partial(forbid, search.suppress_tokens)
    if search.begin_suppress_tokens:
        begin = 1 if search.forced_bos_token_id is None else 2
        yield partial(forbid_at, begin, search.begin_suppress_tokens)


def _sampling(search: Search, eos_tokens: Sequence[int]) -> Iterator[Processor]:
    if not search.do_sample:
        return
    # Several beams must find a token to go on with beside those that end them.
    kept = len(eos_tokens) + 1 if search.num_beams > 1 else 1
    if search.temperature != 1:
        yield partial(divide, search.temperature)
    if search.top_k:
        yield partial(keep_top_k, max(search.top_k, kept))
    if search.top_p < 1:
        yield partial(keep_top_p, search.top_p, kept)


def penalize_repetition(penalty: float, tokens: Tokens, scores: Scores) -> None:
    """Divide the positive scores of tokens that were written by `penalty`, multiply the negative ones by it."""
    written = np.take_along_axis(scores, tokens, axis=1)
    np.put_along_axis(scores, tokens, np.where(written < 0, written * penalty, written / penalty), axis=1)


def forbid_repeated_ngrams(size: int, tokens: Tokens, scores: Scores) -> None:
    """Forbid each token that would complete `size` tokens which were written in this order before."""
    length = tokens.shape[1]
    if length < size:
        return
    ngrams = np.lib.stride_tricks.sliding_window_view(tokens, size, axis=1)
    begun = tokens[:, None, length + 1 - size :]
    beams, places = np.nonzero((ngrams[..., :-1] == begun).all(axis=2))
    scores[beams, ngrams[beams, places, -1]] = NEVER


def forbid(forbidden: Sequence[int], tokens: Tokens, scores: Scores) -> None:
    """Forbid tokens everywhere."""
    scores[:, list(forbidden)] = NEVER


def forbid_before(length: int, forbidden: Sequence[int], tokens: Tokens, scores: Scores) -> None:
    """Forbid tokens while fewer than `length` are written."""
    if tokens.shape[1] < length:
        scores[:, list(forbidden)] = NEVER


def forbid_at(length: int, forbidden: Sequence[int], tokens: Tokens, scores: Scores) -> None:
    """Forbid tokens where exactly `length` are written."""
    if tokens.shape[1] == length:
        scores[:, list(forbidden)] = NEVER


def force_at(length: int, forced: int, tokens: Tokens, scores: Scores) -> None:
    """Leave only the token `forced`, with the score 0, where exactly `length` are written."""
    if tokens.shape[1] == length:
        scores[:] = NEVER
        scores[:, forced] = 0


def divide(temperature: float, tokens: Tokens, scores: Scores) -> None:
    """Flatten the distribution, or sharpen it where `temperature` is below 1."""
    scores /= temperature


def keep_top_k(top_k: int, tokens: Tokens, scores: Scores) -> None:
    """Forbid all but the `top_k` best tokens, and those that score as the last of them."""
    if top_k < scores.shape[1]:
        last = np.partition(scores, -top_k, axis=1)[:, -top_k, None]
        scores[scores < last] = NEVER


def keep_top_p(top_p: float, kept: int, tokens: Tokens, scores: Scores) -> None:
    """Forbid the least likely tokens, of a probability of together up to 1 - `top_p`, but leave at least `kept`."""
    order = np.argsort(scores, axis=1)
    ranked = np.take_along_axis(scores, order, axis=1)
    probabilities = np.exp(ranked - ranked[:, -1:])
    cumulative = probabilities.cumsum(axis=1) / probabilities.sum(axis=1, keepdims=True)
    unlikely = cumulative <= 1 - top_p
    unlikely[:, -kept:] = False
    np.put_along_axis(scores, order, np.where(unlikely, NEVER, ranked), axis=1)
