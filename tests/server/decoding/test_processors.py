from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.generation import logits_process as theirs

from engines.manifest import Search
from server.decoding.processors import Processor, is_forced, keep_top_k, keep_top_p, make_processors

VOCABULARY, BEAMS = 12, 3
EOS = (2, 3)
ALL = Search(
    max_length=20,
    min_length=4,
    num_beams=BEAMS,
    do_sample=True,
    temperature=0.7,
    top_k=5,
    top_p=0.9,
    repetition_penalty=1.2,
    no_repeat_ngram_size=2,
    suppress_tokens=(7,),
    begin_suppress_tokens=(8, 9),
    forced_bos_token_id=10,
    forced_eos_token_id=2,
)
# In transformers' order, which is that of ALL's processors.
THEIRS: list[Callable[[], theirs.LogitsProcessor]] = [
    lambda: theirs.RepetitionPenaltyLogitsProcessor(1.2),
    lambda: theirs.NoRepeatNGramLogitsProcessor(2),
    lambda: theirs.MinLengthLogitsProcessor(4, list(EOS)),
    lambda: theirs.ForcedBOSTokenLogitsProcessor(10),
    lambda: theirs.ForcedEOSTokenLogitsProcessor(20, 2),
    lambda: theirs.SuppressTokensLogitsProcessor([7]),
    lambda: theirs.SuppressTokensAtBeginLogitsProcessor([8, 9], 2),
    lambda: theirs.TemperatureLogitsWarper(0.7),
    lambda: theirs.TopKLogitsWarper(5, min_tokens_to_keep=3),
    lambda: theirs.TopPLogitsWarper(0.9, min_tokens_to_keep=3),
]


def apply(processor: Processor, tokens: np.ndarray, scores: np.ndarray) -> np.ndarray:
    scores = scores.copy()
    processor(tokens, scores)
    return scores


@given(st.integers(1, 20), st.integers(0, 1000))
def test_each_is_that_of_transformers(length: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    tokens = generator.integers(0, VOCABULARY, (BEAMS, length))
    scores = generator.standard_normal((BEAMS, VOCABULARY)).astype(np.float32)
    processors = make_processors(ALL, EOS)
    for mine, their in zip(processors, THEIRS, strict=True):
        expected = their()(torch.from_numpy(tokens), torch.from_numpy(scores.copy())).numpy()
        np.testing.assert_allclose(apply(mine, tokens, scores), expected, rtol=1e-6)


def test_what_is_not_asked_for_is_not_done() -> None:
    assert make_processors(Search(max_length=9, temperature=0.5, top_k=3, top_p=0.5), EOS) == ()
    assert make_processors(Search(max_length=9, min_length=3), ()) == ()
    assert len(make_processors(Search(max_length=9, do_sample=True), EOS)) == 1  # the 50 best, as transformers


def test_ties_with_the_last_of_the_best_are_kept() -> None:
    scores = np.array([[3, 1, 1, 0]], np.float32)
    keep_top_k(2, np.zeros((1, 1), np.int64), scores)
    assert np.isfinite(scores).tolist() == [[True, True, True, False]]


@pytest.mark.parametrize(("kept", "expected"), [(1, 1), (2, 2), (4, 4)])
def test_so_many_tokens_are_left(kept: int, expected: int) -> None:
    scores = np.array([[9, 0, 1, 2]], np.float32)
    keep_top_p(0.01, kept, np.zeros((1, 1), np.int64), scores)
    assert np.isfinite(scores).sum() == expected
    assert np.isfinite(scores[0, 0])


def test_where_there_is_no_choice() -> None:
    assert [is_forced(ALL, length) for length in (1, 2, 18, 19)] == [True, False, False, True]
    assert not any(is_forced(Search(max_length=20), length) for length in range(20))
