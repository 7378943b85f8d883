import itertools

from hypothesis import given
from hypothesis import strategies as st

from server.decoding.transcript import Piece
from server.formats.subtitles import SHORTEST_MILLISECONDS, srt, vtt
from tests.server.formats.pieces import words
from tests.server.formats.subtitles import Cue, read_srt, read_vtt

TWO = [Piece("one two", 0.5, 2.0004, 0.5), Piece("three", 3.25, 3663.9996, 0.5)]


def test_srt() -> None:
    expected = "1\n00:00:00,500 --> 00:00:02,000\none two\n\n2\n00:00:03,250 --> 01:01:04,000\nthree\n"
    assert srt(TWO) == expected
    assert srt([]) == ""


def test_vtt() -> None:
    expected = "WEBVTT\n\n00:00:00.500 --> 00:00:02.000\none two\n\n00:00:03.250 --> 01:01:04.000\nthree\n"
    assert vtt(TWO) == expected
    assert vtt([]) == "WEBVTT\n"


def test_hours_beyond_two_digits() -> None:
    segment = [Piece("late", 360_000, 360_001.5, None)]
    assert "100:00:00,000 --> 100:00:01,500" in srt(segment)
    assert "100:00:00.000 --> 100:00:01.500" in vtt(segment)


def test_vtt_has_no_markup_of_the_text() -> None:
    document = vtt([Piece("R&D <b>x</b> 1 --> 2", 0, 1, None)])
    assert "\nR&amp;D &lt;b&gt;x&lt;/b&gt; 1 --&gt; 2\n" in document


def test_long_texts_have_several_lines() -> None:
    [(_, _, text)] = read_srt(srt([Piece("word " * 20, 0, 7, None)]))
    assert text == [" ".join(["word"] * 8)] * 2 + [" ".join(["word"] * 4)]


def test_line_breaks_of_the_text_do_not_end_a_subtitle() -> None:
    segment = [Piece("one\n\ntwo\r\n\x0bthree\u2028four\x85", 0, 1, None)]
    assert read_srt(srt(segment)) == [(0, 1000, ["one two three four"])]


def test_a_word_that_flashes_up_stays_until_the_next() -> None:
    flashes = [Piece("one", 1, 1.02, None), Piece("two", 1.5, 1.52, None), Piece("three", 9, 9.02, None)]
    assert [cue[:2] for cue in read_srt(srt(flashes))] == [
        (1000, 1500),
        (1500, 1500 + SHORTEST_MILLISECONDS),
        (9000, 9000 + SHORTEST_MILLISECONDS),
    ]


def test_times_that_round_to_one_are_told_apart() -> None:
    tiny = [Piece(str(number), number / 16_000, (number + 1) / 16_000, None) for number in range(40)]
    check(read_vtt(vtt(tiny)), tiny)


def check(cues: list[Cue], segments: list[Piece]) -> None:
    """Check `cues` against those of `segments` that have a text."""
    expected = [segment.text.split() for segment in segments if segment.text.split()]
    assert [" ".join(text).split() for _, _, text in cues] == expected
    assert all(start < end for start, end, _ in cues)
    assert all(one[1] <= following[0] for one, following in itertools.pairwise(cues))


@given(words(st.text(max_size=100) | st.text("<>&-;alt 1\n\r0:,.", max_size=30)))
def test_what_is_written_is_read_back(found: tuple[Piece, ...]) -> None:
    segments = list(found)
    cues = read_srt(srt(segments))
    check(cues, segments)
    assert read_vtt(vtt(segments)) == cues
    texts = [segment for segment in segments if segment.text.split()]
    for (start, end, _), segment in zip(cues, texts, strict=True):
        assert start == round(1000 * segment.start)
        assert end >= round(1000 * segment.end)
