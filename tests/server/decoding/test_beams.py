import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.decoding.beams import search
from server.decoding.frames import Columns
from server.decoding.hotwords import Hotwords
from tests.server.decoding.tiny import DECODERS, PLAIN, Text, log_probabilities, random_logits, sums

FRAMES = {"plain": 6, "awkward": 4}
ALL = 1000  # beams: more than there are texts


def found(
    name: str, logits: np.ndarray, width: int, hotwords: Hotwords | None = None, unlikely: float = 0
) -> set[Text]:
    columns = Columns(DECODERS[name])
    texts = search(columns.frames(log_probabilities(logits)), width, hotwords, unlikely)
    assert len(texts) <= width
    return {tuple(columns.ids[text].tolist()) for text in texts}


@pytest.mark.parametrize("name", DECODERS)
@given(seed=st.integers(0, 10_000))
@settings(max_examples=5, deadline=None)
def test_with_beams_for_all_of_them_it_finds_every_text(name: str, seed: int) -> None:
    logits = random_logits(DECODERS[name], FRAMES[name], seed)
    assert found(name, logits, ALL) == set(sums(DECODERS[name], logits))


def test_a_beam_ends_in_a_blank_or_in_a_token() -> None:
    """`aa` needs a blank: as likely as all `a` together, which one beam finds in the end all the same."""
    logits = np.log(np.array([[0.4, 0.6, 1e-9], [0.4, 0.6, 1e-9]], np.float32))
    assert found("plain", logits, 1) == {(1,)}  # 0.84; the best path says so too, with 0.36
    logits = np.log(np.array([[0.6, 0.4, 1e-9], [0.6, 0.4, 1e-9]], np.float32))
    assert found("plain", logits, 2) == {(1,), ()}  # 0.64 for the one, 0.36 for the best path


def test_a_token_that_is_unlikely_does_not_begin() -> None:
    logits = np.log(np.array([[0.9, 0.09, 0.01], [0.98, 0.01, 0.01]], np.float32))
    assert found("plain", logits, ALL, unlikely=0.05) == {(), (1,)}
    assert found("plain", logits, ALL, unlikely=0.999) == {()}
    assert len(found("plain", logits, ALL)) == 5


def test_the_best_token_begins_however_unlikely_it_is() -> None:
    logits = np.zeros((1, 3), np.float32)
    logits[0, 2] = 0.1
    assert found("plain", logits, ALL, unlikely=0.9) == {(), (2,)}


def test_a_hotword_keeps_a_text_that_would_be_lost() -> None:
    logits = np.log(np.array([[0.01, 0.9, 0.09], [0.9, 0.05, 0.05], [0.01, 0.9, 0.09]], np.float32))
    assert found("plain", logits, 1) == {(1, 1)}
    assert found("plain", logits, 1, Hotwords(PLAIN, ["bb"], 10.0)) == {(2, 2)}


def test_no_frames() -> None:
    assert found("plain", np.zeros((0, 3), np.float32), 4) == {()}
