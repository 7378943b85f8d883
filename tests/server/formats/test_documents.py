from typing import get_args

import pytest

from server.decoding.transcript import Piece, Transcript
from server.formats.documents import DOCUMENTS
from server.schemas.options import ResponseFormat
from tests.server.formats.subtitles import read_srt, read_vtt

TRANSCRIPT = Transcript("one\r\ntwo", 0.5, words=(Piece("one", 0, 0.5, 0.5), Piece("two", 0.6, 1.2, 0.5)))


def test_each_format_that_can_be_asked_for_is_json_or_a_document() -> None:
    assert {*DOCUMENTS, "json", "verbose_json"} == set(get_args(ResponseFormat))


def test_the_documents() -> None:
    cues = [(0, 1200, ["one two"])]
    assert DOCUMENTS["text"].write(TRANSCRIPT) == "one two\n"
    assert read_srt(DOCUMENTS["srt"].write(TRANSCRIPT)) == cues
    assert read_vtt(DOCUMENTS["vtt"].write(TRANSCRIPT)) == cues
    assert [name for name, document in DOCUMENTS.items() if document.joins] == ["text"]


@pytest.mark.parametrize("text", ["", "\n", " "])
def test_an_empty_text(text: str) -> None:
    empty = Transcript(text, None, words=())
    assert not DOCUMENTS["text"].write(empty).strip()
    assert DOCUMENTS["srt"].write(empty) == ""
    assert DOCUMENTS["vtt"].write(empty) == "WEBVTT\n"
