import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.manifest import Ctc
from server.decoding.ctc import IDS, LOG_PROBS, CtcDecoder
from server.streaming.texts import LONGEST_WORD_SECONDS, PAUSE_SECONDS, Path, Text, Texts

BLANK, DELIMITER, A, B, SPECIAL, SPACE = range(6)
FRAME_SECONDS = 0.02
PAUSE = [BLANK] * round(PAUSE_SECONDS / FRAME_SECONDS)
VOCABULARY = ("_", "|", "a", "B", "<s>", " ")


def ctc(**more: object) -> Ctc:
    fields = {"vocabulary": VOCABULARY, "blank": BLANK, "skipped": (SPECIAL,), "word_delimiter": "|", **more}
    return Ctc.model_validate(fields)


def path(ids: list[int]) -> Path:
    return {IDS: np.array(ids, np.int32), LOG_PROBS: np.full(len(ids), -0.5, np.float32)}


def finals(texts: Texts, windows: list[list[int]]) -> list[Text]:
    return [texts.final(path(ids), is_last=place == len(windows) - 1) for place, ids in enumerate(windows)]


WINDOWS = st.lists(st.lists(st.integers(0, 5), max_size=12), min_size=1, max_size=8)


@given(WINDOWS, st.sampled_from([" ", "_", ""]), st.booleans(), st.sampled_from(["|", None]))
def test_the_pieces_are_the_whole(windows: list[list[int]], space: str, lowercase: bool, delimiter: str | None) -> None:
    how = ctc(replace_word_delimiter=space, lowercase=lowercase, word_delimiter=delimiter)
    found = finals(Texts(how, FRAME_SECONDS, with_words=True), windows)
    decoder = CtcDecoder(how)
    whole = decoder.emissions(*path([one for ids in windows for one in ids]).values())
    assert "".join(piece.text for piece in found) == decoder.text(whole.tokens)
    if decoder.space in decoder.spelling:
        words = [word for piece in found for word in piece.words or ()]
        expected = decoder.words(whole, FRAME_SECONDS)
        assert [(word.text, word.start, word.end) for word in words] == [
            (word.text, word.start, word.end) for word in expected
        ]
    assert [piece.start for piece in found[1:]] == [piece.end for piece in found[:-1]]


@given(WINDOWS, WINDOWS)
def test_a_partial_text_is_what_the_last_final_one_would_be(before: list[list[int]], last: list[list[int]]) -> None:
    texts = Texts(ctc(), FRAME_SECONDS)
    for ids in before:
        texts.final(path(ids))
    ids = [one for ids in last for one in ids]
    partial = texts.partial(path(ids))
    final = texts.final(path(ids), is_last=True)
    assert (partial.text, partial.start, partial.end) == (final.text, final.start, final.end)


def test_the_last_word_waits_for_its_end() -> None:
    texts = Texts(ctc(), FRAME_SECONDS)
    assert texts.final(path([A, A, DELIMITER, B])).text == "a"
    assert texts.final(path([B, BLANK, B])).text == ""
    assert texts.final(path([DELIMITER])).text == " BB"
    assert texts.final(path([A]), is_last=True).text == " a"


def test_a_pause_ends_a_word() -> None:
    texts = Texts(ctc(), FRAME_SECONDS)
    assert texts.final(path([A, *PAUSE[1:]])).text == ""
    assert texts.final(path([BLANK])).text == "a"
    assert texts.final(path([B]), is_last=True).text == "B"


def test_what_takes_too_long_is_no_word() -> None:
    texts = Texts(ctc(), FRAME_SECONDS)
    frames = round(LONGEST_WORD_SECONDS / FRAME_SECONDS)
    assert texts.final(path([A, B] * (frames // 2))).text == "aB" * (frames // 2 - 1) + "a"
    assert texts.final(path([B, A]), is_last=True).text == "Ba"


@pytest.mark.parametrize("ids", [[], [BLANK], [DELIMITER], [SPECIAL, BLANK]])
def test_no_text(ids: list[int]) -> None:
    [text] = finals(Texts(ctc(), FRAME_SECONDS, with_words=True), [ids])
    assert (text.text, text.confidence, text.words) == ("", None, ())
    assert text.end == len(ids) * FRAME_SECONDS


def test_hours_of_silence_take_no_memory() -> None:
    texts = Texts(ctc(), FRAME_SECONDS)
    texts.final(path([A]))
    for _ in range(100):
        texts.final(path([BLANK] * 100))
    assert texts.partial(path([])).end == pytest.approx(10_001 * FRAME_SECONDS)
    assert texts.partial(path([])).start == texts.partial(path([])).end
