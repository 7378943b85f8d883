import numpy as np
import pytest

from server.decoding.frames import LOWEST, NEVER, Columns
from tests.server.decoding.tiny import AWKWARD, PLAIN, log_probabilities, random_logits


def test_tokens_have_columns() -> None:
    columns = Columns(AWKWARD)
    assert columns.ids.tolist() == [0, 2, 3]
    assert columns.blank == 1
    assert columns.of(np.array([3, 0, 2])).tolist() == [2, 0, 1]


def test_a_column_is_all_that_shares_a_token() -> None:
    log_probs = log_probabilities(random_logits(AWKWARD, 7, seed=1))
    frames = Columns(AWKWARD).frames(log_probs)
    shares = np.exp(log_probs)
    assert np.exp(frames.emit) == pytest.approx(np.stack([shares[:, 0] + shares[:, 4], shares[:, 2], shares[:, 3]], 1))
    assert np.exp(frames.skip) == pytest.approx(shares[:, 1] + shares[:, 5])
    assert len(frames) == 7


def test_the_best_of_them() -> None:
    log_probs = log_probabilities(random_logits(AWKWARD, 7, seed=1))
    frames = Columns(AWKWARD).frames(log_probs, np.maximum)
    assert frames.emit[:, 0] == pytest.approx(np.maximum(log_probs[:, 0], log_probs[:, 4]))
    assert frames.skip == pytest.approx(np.maximum(log_probs[:, 1], log_probs[:, 5]))


def test_a_vocabulary_without_special_tokens() -> None:
    frames = Columns(PLAIN).frames(log_probabilities(random_logits(PLAIN, 3, seed=1)))
    assert (frames.skip == NEVER).all()


def test_what_cannot_be_stays_a_number() -> None:
    frames = Columns(PLAIN).frames(np.array([[0.0, -np.inf, -np.inf]]))
    assert frames.emit.tolist() == [[0.0, LOWEST, LOWEST]]
