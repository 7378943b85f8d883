import math
from typing import Any

import pytest

from server.decoding.transcript import Piece, Transcript
from server.formats.openai import UNDETERMINED, plain, verbose
from server.schemas.openai import SpeechAnswer, VerboseSpeechAnswer

SAID = Transcript("one two", 0.9, words=(Piece("one", 0.1 + 0.2, 0.58, 0.5), Piece("two", 1.7, 2.1, None)))


def told(said: Transcript = SAID, **options: Any) -> dict[str, Any]:
    found = verbose(said, 3.2, **{"task": "transcribe", "language": None, "temperature": None, **options})
    VerboseSpeechAnswer.model_validate(found)
    return found


def test_plain() -> None:
    assert plain(SAID, 3.2) == {"text": "one two", "usage": {"type": "duration", "seconds": 3.2}}
    SpeechAnswer.model_validate(plain(SAID, 3.2))


def test_verbose() -> None:
    found = told()
    segments = found.pop("segments")
    assert found == {
        "task": "transcribe",
        "language": UNDETERMINED,
        "duration": 3.2,
        "text": "one two",
        "usage": {"type": "duration", "seconds": 3.2},
    }
    assert [(one["id"], one["text"], one["start"], one["end"], one["seek"]) for one in segments] == [
        (0, "one", 0.3, 0.58, 30),
        (1, "two", 1.7, 2.1, 170),
    ]
    assert segments[0]["avg_logprob"] == pytest.approx(math.log(0.5))
    assert segments[1]["avg_logprob"] == 0
    assert all(one["temperature"] == 0 and one["tokens"] == [] for one in segments)
    assert 0 < segments[0]["compression_ratio"] < 1


def test_words() -> None:
    found = told(parts=["word"])
    assert "segments" not in found
    assert found["words"][1] == {"word": "two", "start": 1.7, "end": 2.1}
    assert {"words", "segments"} <= set(told(parts=["word", "segment"]))
    with pytest.raises(ValueError, match="no words"):
        told(Transcript("zwei", 0.5, segments=()), parts=["word"])


def test_what_was_asked_for_is_told() -> None:
    found = told(task="translate", language="de_DE", temperature=0.5)
    assert (found["task"], found["language"]) == ("translate", "de_DE")
    assert found["segments"][0]["temperature"] == 0.5


def test_a_text_that_repeats_compresses_well() -> None:
    looped = Transcript("la " * 99, 0.5, segments=(Piece("la " * 99, 0, 30, 0.5),))
    assert told(looped)["segments"][0]["compression_ratio"] > 2.4
