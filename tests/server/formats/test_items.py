import pytest

from server.decoding.transcript import Alternative, Piece, Transcript
from server.formats.items import item
from server.schemas.answers import TranscriptItem

WORDS = (Piece("one", 0.1 + 0.2, 0.58, 0.9), Piece("two", 0.6, 0.8, None))
PLAIN = Transcript("one two", 0.9)


def test_only_what_there_is() -> None:
    assert item(PLAIN) == {"text": "one two", "confidence": 0.9}


def test_times() -> None:
    found = item(Transcript("one two", 0.9, words=WORDS, chars=(Piece("o", 0.3, 0.32, 0.8),)))
    assert found["words"] == [
        {"word": "one", "start": 0.3, "end": 0.58, "confidence": 0.9},
        {"word": "two", "start": 0.6, "end": 0.8, "confidence": None},
    ]
    assert found["chars"] == [{"char": "o", "start": 0.3, "end": 0.32, "confidence": 0.8}]
    assert "segments" not in found


def test_verbose() -> None:
    [segment] = item(Transcript("one two", 0.9, words=WORDS), verbose=True)["segments"]
    assert segment == {"text": "one two", "start": 0.3, "end": 0.8, "confidence": pytest.approx(0.9)}
    with pytest.raises(ValueError, match="neither"):
        item(PLAIN, verbose=True)


def test_a_model_that_writes() -> None:
    alternatives = (Alternative("eins", 0.9, -0.1), Alternative("zwei", None, -0.2))
    found = item(Transcript("eins", 0.9, alternatives=alternatives, tokens=2))
    assert found["tokens"] == 2
    assert found["alternatives"][1] == {"text": "zwei", "confidence": None, "score": -0.2}


def test_what_is_there_is_documented() -> None:
    alternatives = (Alternative("one two", 0.9, -0.1),)
    full = Transcript("one two", 0.9, WORDS, WORDS, WORDS, alternatives, 2)
    found = item(full, verbose=True)
    dumped = TranscriptItem.model_validate({"index": 0, "duration": 1, "windows": 1, **found}).model_dump()
    assert set(found) <= set(TranscriptItem.model_fields)
    assert dumped["chars"] == found["chars"]
    assert dumped["words"] == found["words"]
    assert dumped["segments"] == found["segments"]
