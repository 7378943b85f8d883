"""Given texts and frames: how likely CTC makes each text, and which frames emit its tokens.

A text of n tokens has 2n + 1 states: a blank before each token and one at the end. Each frame stays in its state, or
goes on to the next, or from a token to the next one past the blank between them, unless the two are alike (Graves et
al. 2006, Connectionist Temporal Classification, section 4.1). Before the first frame it is in the first blank.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from server.decoding.ctc import Emissions
from server.decoding.frames import NEVER, Frames

Tokens = NDArray[np.int64]  # columns of Frames
STAY, ENTER, PASS = 0, 1, 2  # how a state was reached: from itself, the one before it, or the one before that


def log_likelihoods(frames: Frames, texts: Sequence[Tokens]) -> NDArray[np.float64]:
    """Return the log-probability of each of `texts` [texts], summed over all paths that give it: the forward algorithm.

    The work grows with the frames times the tokens of all texts.
    """
    counts = np.array([len(text) for text in texts])
    tokens = np.zeros((len(texts), counts.max(initial=0)), np.int64)
    for row, text in zip(tokens, texts, strict=True):
        row[: len(text)] = text
    alike = np.zeros(tokens.shape, bool)
    alike[:, 1:] = tokens[:, 1:] == tokens[:, :-1]
    apart = np.where(alike, NEVER, 0.0)  # what it costs to go from the token before to this one at once

    blanks, labels = np.full((len(texts), tokens.shape[1] + 1), NEVER), np.full(tokens.shape, NEVER)
    blanks[:, 0] = 0
    passed = np.full(tokens.shape, NEVER)
    for emit, skip in zip(frames.emit, frames.skip, strict=True):
        passed[:, 1:] = labels[:, :-1]
        entered = _sum(labels, blanks[:, :-1], passed + apart) + emit[tokens]
        rested = blanks + emit[frames.blank]
        rested[:, 1:] = _sum(blanks[:, 1:], labels) + emit[frames.blank]
        if skip > NEVER:
            entered, rested = _sum(entered, labels + skip), _sum(rested, blanks + skip)
        labels, blanks = entered, rested
    every = np.arange(len(texts))
    ended = np.where(counts > 0, labels[every, counts - 1], NEVER) if tokens.shape[1] else np.full(len(texts), NEVER)
    return _sum(blanks[every, counts], ended)


def _sum(*logarithms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the logarithm of the sum of what `logarithms` are of. np.logaddexp takes four times as long."""
    largest = logarithms[0]
    for each in logarithms[1:]:
        largest = np.maximum(largest, each)
    total = np.exp(logarithms[0] - largest)
    for each in logarithms[1:]:
        total += np.exp(each - largest)
    return np.asarray(np.log(total, out=total) + largest)


def align(frames: Frames, tokens: Tokens) -> Emissions:
    """Return where `tokens` are emitted on the best path that gives them (Viterbi).

    `frames` are to hold the best of what shares a column, and enough of them for the tokens. Of the greedy tokens, it
    is the greedy path.
    """
    states = np.full(2 * len(tokens) + 1, frames.blank)
    states[1::2] = tokens
    path = _best_path(frames, states)
    every = np.arange(len(path))
    emitted = frames.emit[every, states[path]]
    emits = (path % 2 == 1) & (emitted >= frames.skip)
    emits[1:] |= (path[1:] % 2 == 1) & (path[1:] != path[:-1])  # it is entered by the token itself
    emits[:1] |= path[:1] % 2 == 1
    places, which = path[emits] // 2, every[emits]
    starts, ends = np.zeros(len(tokens), np.int64), np.zeros(len(tokens), np.int64)
    starts[places[::-1]] = which[::-1]
    ends[places] = which + 1
    counts, log_probs = np.zeros(len(tokens), np.int64), np.zeros(len(tokens))
    np.add.at(counts, places, 1)
    np.add.at(log_probs, places, emitted[emits])
    return Emissions(tokens, starts, ends, counts, log_probs)


def _best_path(frames: Frames, states: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the state of each frame on the best path through `states`."""
    apart = np.zeros(len(states))
    apart[2:] = np.where(states[2:] == states[:-2], NEVER, 0.0)  # two blanks are alike too
    scores = np.full((3, len(states)), NEVER)
    best = np.full(len(states), NEVER)
    best[0] = 0
    came = np.zeros((len(frames), len(states)), np.int8)
    for frame, (emit, skip) in enumerate(zip(frames.emit[:, states], frames.skip, strict=True)):
        scores[STAY] = best + np.maximum(emit, skip)
        scores[ENTER, 1:] = best[:-1] + emit[1:]
        scores[PASS, 2:] = best[:-2] + emit[2:] + apart[2:]
        came[frame] = scores.argmax(axis=0)
        best = scores.max(axis=0)
    path = np.zeros(len(frames), np.int64)
    last = len(states) - 1
    state = last if last == 0 or best[last] >= best[last - 1] else last - 1
    for frame in range(len(frames) - 1, -1, -1):
        path[frame] = state
        state -= int(came[frame, state])
    return path
