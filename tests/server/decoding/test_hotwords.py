import pytest

from engines.manifest import Ctc
from server.decoding.ctc import CtcDecoder
from server.decoding.hotwords import Hotwords, cleaned

TOKENS = ("<pad>", "|", "<s>", *"ABCDENRWOSTYK", "NE", "st")
SPACED = CtcDecoder(Ctc(vocabulary=TOKENS, blank=0, skipped=(2,), word_delimiter="|"))
UNSPACED = CtcDecoder(Ctc(vocabulary=("<pad>", *"字abcd"), blank=0, skipped=(), word_delimiter=None))


def tokens(decoder: CtcDecoder, text: str) -> list[int]:
    return [decoder.spelling.index(letter) for letter in text]


def bonus(hotwords: Hotwords, text: str, decoder: CtcDecoder = SPACED) -> float:
    return hotwords.bonus(tokens(decoder, text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("NEW", 1),
        ("NEW ", 1),
        (" NEW", 1),
        ("A NEW DAY", 1),
        ("NEW NEW", 2),
        ("NE", 0),
        ("NEWS", 0),
        ("RENEW", 0),
        ("", 0),
        ("  NEW  NEW  ", 2),
    ],
)
def test_whole_words_count(text: str, expected: int) -> None:
    assert bonus(Hotwords(SPACED, ["new"], 2.0), text) == 2 * expected


def test_a_phrase_is_one_hotword() -> None:
    hotwords = Hotwords(SPACED, ["New  York", "new"], 1.0)
    assert bonus(hotwords, "NEW YORK") == 2
    assert bonus(hotwords, "NEW YORKS") == 1
    assert bonus(hotwords, "NEW NEW YORK") == 3
    assert bonus(hotwords, "YORK") == 0


def test_on_the_way_into_a_word_its_share_counts() -> None:
    hotwords = Hotwords(SPACED, ["news", "newest"], 6.0)
    state, shares = hotwords.begin, []
    for token in tokens(SPACED, "NEWEST"):
        state, earned = hotwords.step(state, token)
        assert earned == 0
        shares.append(hotwords.share(state))
    # of the shortest word that it may be; at the end of the longer one it is all but certain
    assert shares == pytest.approx([1.5, 3, 4.5, 4, 5, 6])
    state, earned = hotwords.step(state, tokens(SPACED, " ")[0])
    assert (earned, hotwords.share(state)) == (6, 0)


def test_what_goes_on_otherwise_loses_it() -> None:
    hotwords = Hotwords(SPACED, ["news"], 6.0)
    state, _ = hotwords.step(hotwords.begin, tokens(SPACED, "N")[0])
    assert hotwords.share(state) == 1.5
    state, _ = hotwords.step(state, tokens(SPACED, "A")[0])
    assert hotwords.share(state) == 0
    state, _ = hotwords.step(state, tokens(SPACED, "N")[0])
    assert hotwords.share(state) == 0  # it is not the beginning of a word


def test_tokens_of_several_characters() -> None:
    hotwords = Hotwords(SPACED, ["newest"], 6.0)
    spelled = [TOKENS.index("NE"), *tokens(SPACED, "WE"), TOKENS.index("st")]
    assert hotwords.bonus(spelled) == 6
    assert hotwords.share(hotwords.step(hotwords.begin, spelled[0])[0]) == 2


def test_without_delimiters_a_word_is_anywhere() -> None:
    hotwords = Hotwords(UNSPACED, ["字a", "aba"], 1.0)
    assert bonus(hotwords, "b字ab", UNSPACED) == 1
    assert bonus(hotwords, "ababa", UNSPACED) == 2
    assert bonus(hotwords, "字aba", UNSPACED) == 2


@pytest.mark.parametrize(("word", "decoder"), [("x", SPACED), ("new2", SPACED), ("<s>", SPACED), ("a b", UNSPACED)])
def test_what_cannot_be_spelled(word: str, decoder: CtcDecoder) -> None:
    with pytest.raises(ValueError, match="cannot spell"):
        Hotwords(decoder, [word], 1.0)


def test_the_words_are_cleaned() -> None:
    assert cleaned([" New\n York ", "", "  ", "new york"]) == {"new york"}
