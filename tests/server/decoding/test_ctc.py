import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from transformers import Wav2Vec2CTCTokenizer

from engines.manifest import Ctc
from server.decoding.ctc import CtcDecoder

SPECIALS = ("<pad>", "<s>", "</s>", "<unk>")
LETTERS = (*SPECIALS, "|", "A", "B", "L", "'", "é", "ß")
PHONEMES = ("|", "oi", "tʃ", "t", "ʃ", "a", " ", *SPECIALS)
CASES = {
    "letters": Ctc(vocabulary=LETTERS, blank=0, skipped=(0, 1, 2, 3), word_delimiter="|"),
    "lowercase": Ctc(vocabulary=LETTERS, blank=0, skipped=(0, 1, 2, 3), word_delimiter="|", lowercase=True),
    "phonemes": Ctc(vocabulary=PHONEMES, blank=7, skipped=(7, 8, 9, 10), word_delimiter="|"),
    "delimiter is special": Ctc(vocabulary=LETTERS, blank=0, skipped=(0, 1, 2, 3, 4), word_delimiter="|"),
    "replaced": Ctc(vocabulary=LETTERS, blank=0, skipped=(0, 1, 2, 3), word_delimiter="|", replace_word_delimiter="_"),
}


def logits_of(ids: list[int], size: int, scale: float = 5.0) -> NDArray[np.float32]:
    return (scale * np.eye(size)[ids]).astype(np.float32).reshape(len(ids), size)


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Wav2Vec2CTCTokenizer]:
    folder: Path = tmp_path_factory.mktemp("tokenizers")
    found = {}
    for name, ctc in CASES.items():
        path = folder / f"{name}.json"
        path.write_text(json.dumps({token: index for index, token in enumerate(ctc.vocabulary)}))
        found[name] = Wav2Vec2CTCTokenizer(
            path,
            word_delimiter_token=ctc.word_delimiter,
            replace_word_delimiter_char=ctc.replace_word_delimiter,
            do_lower_case=ctc.lowercase,
        )
    return found


@pytest.mark.parametrize("name", CASES)
@given(ids=st.lists(st.integers(0, 10), max_size=40))
@settings(max_examples=200, deadline=None)
def test_the_text_is_that_of_transformers(
    name: str, ids: list[int], tokenizers: dict[str, Wav2Vec2CTCTokenizer]
) -> None:
    ctc = CASES[name]
    # without special tokens, but with the blanks and the delimiters
    path = [index for index in ids if ctc.vocabulary[index] not in SPECIALS[1:]]
    expected = tokenizers[name].decode(path)
    assert CtcDecoder(ctc).greedy(logits_of(ids, len(ctc.vocabulary))).text == expected


def test_a_blank_keeps_double_letters_apart() -> None:
    path = [5, 5, 7, 0, 7, 7, 4, 6]
    assert CtcDecoder(CASES["letters"]).greedy(logits_of(path, 11)).text == "ALL B"


def test_a_special_token_does_not_keep_them_apart() -> None:
    assert CtcDecoder(CASES["letters"]).greedy(logits_of([5, 1, 5, 2], 11)).text == "A"


def test_ids_that_share_a_token_are_one() -> None:
    ctc = Ctc(vocabulary=("<pad>", "a", "a"), blank=0, skipped=(0,), word_delimiter=None)
    assert CtcDecoder(ctc).greedy(logits_of([1, 2, 1], 3)).text == "a"


def test_confidence_is_the_geometric_mean_over_the_frames_that_emit() -> None:
    probabilities = np.full((4, 11), 0.01, np.float32)
    for frame, (token, probability) in enumerate([(5, 0.9), (5, 0.6), (0, 0.5), (6, 0.8)]):
        probabilities[frame] = (1 - probability) / 10
        probabilities[frame, token] = probability
    transcript = CtcDecoder(CASES["letters"]).greedy(np.log(probabilities) + 7)
    assert transcript.text == "AB"
    assert transcript.confidence == pytest.approx((0.9 * 0.6 * 0.8) ** (1 / 3), rel=1e-5)


@pytest.mark.parametrize("path", [[], [0, 0, 0], [4, 4], [1, 2, 3]])
def test_no_text_has_no_confidence(path: list[int]) -> None:
    transcript = CtcDecoder(CASES["letters"]).greedy(logits_of(path, 11))
    assert transcript.text == ""
    assert transcript.confidence is None


def test_logits_of_any_size_do_not_overflow() -> None:
    transcript = CtcDecoder(CASES["letters"]).greedy(logits_of([5, 6], 11, scale=1e30))
    assert transcript.confidence == pytest.approx(1)
