"""Vocabularies so small that every path through a few frames can be tried."""

import itertools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from engines.manifest import Ctc
from server.decoding.ctc import CtcDecoder

Text = tuple[int, ...]  # ids

PLAIN = CtcDecoder(Ctc(vocabulary=("<pad>", "a", "b"), blank=0, skipped=(), word_delimiter=None))
# Two ids share a token, two tokens are special, and the blank is in the middle.
AWKWARD = CtcDecoder(
    Ctc(vocabulary=("a", "<s>", "<pad>", "|", "a", "</s>"), blank=2, skipped=(1, 5), word_delimiter="|")
)
DECODERS = {"plain": PLAIN, "awkward": AWKWARD}


def random_logits(decoder: CtcDecoder, frames: int, seed: int, scale: float = 2.0) -> NDArray[np.float32]:
    generator = np.random.default_rng(seed)
    return (scale * generator.normal(size=(frames, decoder.vocabulary_size))).astype(np.float32)


def log_probabilities(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = logits.astype(np.float64)
    return np.asarray(wide - np.logaddexp.reduce(wide, axis=1, keepdims=True))


def paths(decoder: CtcDecoder, logits: NDArray[np.float32]) -> Iterator[tuple[Text, NDArray[np.int32], float]]:
    """Yield what each path says, the path, and its log-probability."""
    log_probs = log_probabilities(logits)
    frames = np.arange(len(logits))
    for ids in itertools.product(range(decoder.vocabulary_size), repeat=len(logits)):
        path = np.array(ids, np.int32)
        found = decoder.emissions(path, np.zeros(len(path), np.float32))
        yield tuple(found.tokens.tolist()), path, float(log_probs[frames, path].sum())


def sums(decoder: CtcDecoder, logits: NDArray[np.float32]) -> dict[Text, float]:
    """Return the log-probability of each text: the sum over its paths."""
    found: dict[Text, float] = {}
    for text, _, score in paths(decoder, logits):
        found[text] = float(np.logaddexp(found.get(text, -np.inf), score))
    return found
