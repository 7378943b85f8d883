import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from server.decoding.alignment import align, log_likelihoods
from server.decoding.ctc import CtcDecoder
from server.decoding.frames import Columns
from tests.server.decoding.tiny import DECODERS, PLAIN, log_probabilities, paths, random_logits, sums

FRAMES = {"plain": 6, "awkward": 4}  # 3**6 and 6**4 paths


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("seed", range(3))
def test_the_sum_is_that_over_all_paths(name: str, seed: int) -> None:
    decoder = DECODERS[name]
    for count in range(1, FRAMES[name] + 1):
        logits = random_logits(decoder, count, seed)
        expected = sums(decoder, logits)
        columns = Columns(decoder)
        texts = [columns.of(np.array(text, np.int64)) for text in expected]
        found = log_likelihoods(columns.frames(log_probabilities(logits)), texts)
        assert found == pytest.approx(np.array(list(expected.values())), abs=1e-6)
        assert np.logaddexp.reduce(found) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("seed", range(3))
def test_the_alignment_is_the_best_of_all_paths(name: str, seed: int) -> None:
    decoder, columns = DECODERS[name], Columns(DECODERS[name])
    logits = random_logits(decoder, FRAMES[name], seed)
    log_probs = log_probabilities(logits)
    best: dict[tuple[int, ...], tuple[float, np.ndarray]] = {}
    for text, path, score in paths(decoder, logits):
        if text not in best or score > best[text][0]:
            best[text] = score, path
    frames = columns.frames(log_probs, np.maximum)
    for text, (_, path) in best.items():
        own = log_probs[np.arange(len(path)), path].astype(np.float32)
        expected, found = decoder.emissions(path, own), align(frames, columns.of(np.array(text, np.int64)))
        assert columns.ids[found.tokens].tolist() == list(text)
        assert found.starts.tolist() == expected.starts.tolist()
        assert found.ends.tolist() == expected.ends.tolist()
        assert found.frames.tolist() == expected.frames.tolist()
        assert found.log_probs == pytest.approx(expected.log_probs, abs=1e-5)


@pytest.mark.parametrize("name", DECODERS)
@given(count=st.integers(1, 60), seed=st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_the_alignment_of_the_greedy_text_is_the_greedy_path(name: str, count: int, seed: int) -> None:
    decoder, columns = DECODERS[name], Columns(DECODERS[name])
    logits = random_logits(decoder, count, seed)
    expected = decoder.greedy(logits)
    found = align(columns.frames(log_probabilities(logits), np.maximum), columns.of(expected.tokens))
    assert found.starts.tolist() == expected.starts.tolist()
    assert found.ends.tolist() == expected.ends.tolist()
    assert found.confidence == (None if expected.confidence is None else pytest.approx(expected.confidence, rel=1e-4))


def test_the_sum_is_that_of_torch() -> None:
    logits = random_logits(PLAIN, 200, seed=5)
    texts = [PLAIN.greedy(logits).tokens, np.array([1, 1, 2]), np.array([2])]
    found = log_likelihoods(Columns(PLAIN).frames(log_probabilities(logits)), texts)
    for text, score in zip(texts, found, strict=True):
        loss = torch.nn.functional.ctc_loss(
            torch.from_numpy(log_probabilities(logits)),
            torch.from_numpy(text),
            torch.tensor(len(logits)),
            torch.tensor(len(text)),
            reduction="sum",
        )
        assert score == pytest.approx(-loss.item(), abs=1e-6)


def test_what_float64_cannot_hold_as_a_probability() -> None:
    logits = 1e30 * np.array([[1, 0, 0], [0, 1, 0], [1, 0, 0]], np.float32)
    frames = Columns(PLAIN).frames(log_probabilities(logits))
    [certain, absurd] = log_likelihoods(frames, [np.array([1]), np.array([2])])
    assert certain == pytest.approx(0)
    assert absurd == pytest.approx(-1e30, rel=1e-6)


def test_a_text_that_needs_more_frames_cannot_be() -> None:
    frames = Columns(PLAIN).frames(log_probabilities(random_logits(PLAIN, 2, seed=1)))
    assert log_likelihoods(frames, [np.array([1, 1])])[0] < -1e200


@pytest.mark.parametrize("decoder", DECODERS.values())
def test_no_frames(decoder: CtcDecoder) -> None:
    frames = Columns(decoder).frames(np.zeros((0, decoder.vocabulary_size)))
    nothing = np.zeros(0, np.int64)
    assert log_likelihoods(frames, [nothing]).tolist() == [0]
    assert len(align(frames, nothing)) == 0
