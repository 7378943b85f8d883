import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.decoding.transcript import Piece, Transcript
from server.formats.segments import LINE_COLUMNS, LONG_PAUSE_SECONDS, MAX_LINES, MAX_SECONDS, lines, segments
from tests.server.formats.pieces import spoken, timed, words

LETTERS = st.text("abcdefgh", min_size=1, max_size=12)


def of(*found: Piece, chars: tuple[Piece, ...] | None = None) -> list[str]:
    return [one.text for one in segments(Transcript("any", 0.5, words=found, chars=chars))]


def test_a_short_text_is_one_segment() -> None:
    found = spoken("one two three", start=1)
    [segment] = segments(Transcript("one two three", 0.5, words=found))
    assert (segment.text, segment.start) == ("one two three", 1)
    assert segment.end == pytest.approx(2.1)
    assert segment.confidence == pytest.approx(0.9)


def test_a_long_pause_ends_a_segment() -> None:
    before, after = spoken("one two"), spoken("three four", start=0.7 + LONG_PAUSE_SECONDS)
    assert of(*before, *after) == ["one two", "three four"]
    assert of(*before, *spoken("three four", start=0.69 + LONG_PAUSE_SECONDS)) == ["one two three four"]


def test_a_text_that_is_too_long_is_cut_at_the_longest_pause_of_its_second_half() -> None:
    texts = [f"word{number:02}" for number in range(14)]  # twelve are two lines
    frames = [(1, 10)] * 14
    frames[2] = (30, 10)  # in the first half
    frames[8] = (12, 10)
    assert of(*timed(texts, frames)) == [" ".join(texts[:8]), " ".join(texts[8:])]


def test_of_equal_pauses_the_last_one_is_taken() -> None:
    texts = [f"word{number:02}" for number in range(14)]
    assert of(*timed(texts, [(1, 10)] * 14)) == [" ".join(texts[:12]), " ".join(texts[12:])]


def test_a_slow_text_is_cut_by_its_time() -> None:
    found = segments(Transcript("any", 0.5, words=spoken("a b c d e f g h i j", seconds=1.5, pause=0.2)))
    assert [one.text for one in found] == ["a b c d", "e f g h", "i j"]
    assert all(one.end - one.start <= MAX_SECONDS for one in found)


def test_segments_that_are_there_are_taken() -> None:
    own = (Piece("ein Satz", 0, 30, 0.5), Piece(" ", 30, 60, None), Piece("noch einer", 60, 71, 0.5))
    assert segments(Transcript("ein Satz noch einer", 0.5, segments=own)) == (own[0], own[2])


def test_without_times_there_are_none() -> None:
    with pytest.raises(ValueError, match="neither segments nor words"):
        segments(Transcript("text", 0.5))


def test_an_empty_text_has_no_segments() -> None:
    assert segments(Transcript("", None, words=())) == ()


def test_a_script_without_spaces_is_cut_between_its_characters() -> None:
    chars = timed("语音识别" * 20, [(0, 10)] * 80)
    word = Piece("语音识别" * 20, 0, chars[-1].end, 0.5)
    found = segments(Transcript(word.text, 0.5, words=(word,), chars=tuple(chars)))
    assert "".join(one.text.replace(" ", "") for one in found) == word.text
    assert all(len(line) <= LINE_COLUMNS / 2 for one in found for line in lines(one.text.split()))
    assert of(word) == [word.text]  # nobody knows where


def test_the_characters_of_other_words_stay_where_they_are() -> None:
    texts = ["one", "x" * 50, "two"]
    found = [Piece(texts[0], 0, 0.3, 0.5), Piece(texts[1], 0.4, 5.4, 0.5), Piece(texts[2], 5.5, 5.8, 0.5)]
    spelled = [*"one", " ", *texts[1], " ", *"two"]
    starts = [*(0.1 * place for place in range(4)), *(0.4 + 0.1 * place for place in range(50)), 5.4, 5.5, 5.6, 5.7]
    chars = [Piece(char, start, start + 0.1, 0.5) for char, start in zip(spelled, starts, strict=True)]
    assert " ".join(of(*found, chars=tuple(chars))).split() == ["one", "x" * 42, "x" * 8, "two"]


def test_confidence_is_the_mean_by_characters() -> None:
    found = (Piece("a", 0, 0.1, 0.25), Piece("bcd", 0.2, 0.3, 1.0), Piece("?", 0.4, 0.5, None))
    [segment] = segments(Transcript("a bcd ?", 0.5, words=found))
    assert segment.confidence == pytest.approx(0.25 ** (1 / 4))
    [unknown] = segments(Transcript("?", 0.5, words=found[2:]))
    assert unknown.confidence is None


@given(words(LETTERS))
def test_nothing_is_lost_and_nothing_too_long(found: tuple[Piece, ...]) -> None:
    made = segments(Transcript("any", 0.5, words=found))
    assert [word for one in made for word in one.text.split()] == [word.text for word in found]
    starts, ends = {word.start for word in found}, {word.end for word in found}
    for one in made:
        assert one.start in starts
        assert one.end in ends
        if " " in one.text:
            assert one.end - one.start <= MAX_SECONDS
            assert len(lines(one.text.split())) <= MAX_LINES
    for one, following in itertools.pairwise(made):
        assert one.end <= following.start


@given(words())
def test_no_segment_is_empty(found: tuple[Piece, ...]) -> None:
    made = segments(Transcript("any", 0.5, words=found))
    assert all(one.text.strip() and one.start < one.end for one in made)
    assert "".join("".join(one.text.split()) for one in made) == "".join("".join(one.text.split()) for one in found)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Z", "C"]), min_size=1, max_size=50), max_size=30))
def test_lines(texts: list[str]) -> None:
    filled = lines(texts)
    assert " ".join(filled).split(" ") == (texts or [""])
    assert all(len(line) <= LINE_COLUMNS or " " not in line for line in filled)


def test_hours_take_no_longer_than_their_words() -> None:
    def seconds(count: int) -> float:
        pauses = [(50 - place % 50, 5) for place in range(count)]  # each shorter than the one before
        found = tuple(timed(["word"] * count, pauses))
        started = time.process_time()
        assert segments(Transcript("any", 0.5, words=found))
        return time.process_time() - started

    few, many = min(seconds(1_000) for _ in range(3)), seconds(16_000)
    assert many / few < 16 * 4
