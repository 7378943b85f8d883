import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engines.manifest import Ctc
from server.decoding.alignment import log_likelihoods
from server.decoding.beams import search
from server.decoding.ctc import CtcDecoder
from server.decoding.frames import Columns
from server.decoding.hotwords import Hotwords
from server.decoding.hypotheses import BeamDecoder, Candidate
from server.steps import finish, take
from tests.server.decoding.tiny import DECODERS, PLAIN, log_probabilities, random_logits, sums

WORDS = CtcDecoder(Ctc(vocabulary=("<pad>", "|", "a", "b", "c"), blank=0, skipped=(), word_delimiter="|"))
LONG = 1000  # frames of a piece: no clip here has as many


def decode(
    decoder: CtcDecoder,
    logits: NDArray[np.float32],
    count: int = 1,
    width: int = 16,
    piece: int = LONG,
    hotwords: Hotwords | None = None,
) -> list[Candidate]:
    parts = np.array_split(logits, 3) if len(logits) >= 3 else [logits]
    return finish(BeamDecoder(decoder, width, hotwords, piece).decode(parts, count))


def said(ids: list[int], sure: float = 6.0) -> NDArray[np.float32]:
    return (sure * np.eye(5)[ids]).astype(np.float32)


@pytest.mark.parametrize("name", DECODERS)
@given(seed=st.integers(0, 10_000))
@settings(max_examples=5, deadline=None)
def test_the_best_are_those_of_all_texts(name: str, seed: int) -> None:
    """No two of them are spelled alike: of those that are, the one with the best score counts."""
    decoder = DECODERS[name]
    logits = random_logits(decoder, 4, seed)
    # what is unlikely is not looked at: with logits like these nothing is
    found = decode(decoder, logits, count=5, width=1000)
    best: dict[str, float] = {}
    for ids, score in sums(decoder, logits).items():
        spelled = decoder.text(np.array(ids, np.int64))
        best[spelled] = max(score, best.get(spelled, -np.inf))
    expected = sorted(best.items(), key=lambda one: -one[1])[:5]
    assert [decoder.text(one.emissions.tokens) for one in found] == [text for text, _ in expected]
    assert [one.score for one in found] == pytest.approx([score for _, score in expected], abs=1e-5)


@pytest.mark.parametrize("piece", [LONG, 20])
@given(
    seed=st.integers(0, 10_000), count=st.integers(1, 80), width=st.integers(1, 4), scale=st.sampled_from([0.3, 2.0])
)
@settings(max_examples=25, deadline=None)
def test_the_best_is_never_worse_than_the_best_path(
    piece: int, seed: int, count: int, width: int, scale: float
) -> None:
    logits = random_logits(PLAIN, count, seed, scale)
    [best] = decode(PLAIN, logits, width=width, piece=piece)
    if piece == LONG:
        frames = Columns(PLAIN).frames(log_probabilities(logits))
        [greedy] = log_likelihoods(frames, [PLAIN.greedy(logits).tokens])
        assert best.score >= greedy - 1e-9
        assert best.score == pytest.approx(log_likelihoods(frames, [best.emissions.tokens])[0])
    starts, ends = best.emissions.starts, best.emissions.ends
    assert (starts < ends).all()
    assert (starts[1:] >= ends[:-1]).all()
    assert not len(ends) or ends[-1] <= count


def test_greedy_joins_where_the_search_has_lost_it() -> None:
    logits = random_logits(PLAIN, 6, seed=0, scale=0.3)
    greedy = PLAIN.greedy(logits).tokens.tolist()
    frames = Columns(PLAIN).frames(log_probabilities(logits))
    assert greedy not in [text.tolist() for text in search(frames, 1)]
    assert greedy in [one.emissions.tokens.tolist() for one in decode(PLAIN, logits, count=2, width=1)]


def test_times_are_those_of_the_best_path_of_the_text() -> None:
    path = [0, 2, 2, 0, 3, 1, 0, 4, 0]
    [best] = decode(WORDS, said(path))
    expected = WORDS.greedy(said(path))
    for name in ("tokens", "starts", "ends", "frames"):
        assert getattr(best.emissions, name).tolist() == getattr(expected, name).tolist()
    assert best.emissions.confidence == pytest.approx(expected.confidence)


def test_pieces_end_in_pauses_and_say_the_same() -> None:
    sentence = [0, 2, 0, 3, 3, 0, 1, 0, 0, 0, 4, 2, 1, 1, 0, 0, 0, 0]
    logits = said(sentence * 5)
    [best] = decode(WORDS, logits, piece=20)
    expected = WORDS.greedy(logits)
    for name in ("tokens", "starts", "ends", "frames"):
        assert getattr(best.emissions, name).tolist() == getattr(expected, name).tolist()
    [whole] = decode(WORDS, logits)
    assert best.score == pytest.approx(whole.score, abs=0.2)


def test_a_step_is_a_piece() -> None:
    steps = BeamDecoder(WORDS, 2, None, 20).decode([said([0, 2, 0, 0, 3, 0] * 10)], 1)
    count = 1
    while not take(steps):
        count += 1
    assert 1 + 60 / 20 <= count <= 1 + 60 / (20 * 2 / 3) + 1  # a piece ends in its last third


def test_a_clip_without_any_pause_is_cut_all_the_same() -> None:
    logits = said([2, 3] * 30)
    [best] = decode(WORDS, logits, piece=7)
    assert WORDS.text(best.emissions.tokens) == "ab" * 30


def test_alternatives_of_several_pieces() -> None:
    sentence = said([0, 2, 0, 0, 0, 0])
    sentence[1, 3] += 5  # nearly as likely
    found = decode(WORDS, np.concatenate([sentence] * 3), count=4, piece=6)
    texts = [WORDS.text(one.emissions.tokens) for one in found]
    assert texts[0] == "aaa"
    assert set(texts[1:]) == {"baa", "aba", "aab"}
    scores = [one.score for one in found]
    assert scores == sorted(scores, reverse=True)


def test_a_hotword_counts() -> None:
    logits = said([0, 2, 0, 3, 0])
    logits[3, 4] += 5
    hotwords = Hotwords(WORDS, ["ac"], 10.0)
    assert WORDS.text(decode(WORDS, logits)[0].emissions.tokens) == "ab"
    [best, other] = decode(WORDS, logits, count=2, hotwords=hotwords)
    assert WORDS.text(best.emissions.tokens) == "ac"
    assert best.score - other.score == pytest.approx(10 - 1, abs=0.1)


def test_no_frames() -> None:
    [best] = decode(WORDS, np.zeros((0, 5), np.float32))
    assert len(best.emissions) == 0
