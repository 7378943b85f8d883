from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from engines.manifest import Manifest
from sonant.evaluation.data import Entry
from sonant.evaluation.questions import accuracy, asked, error_rate, nearest, normalised, precision_at_1
from sonant.runs.errors import UsageError
from tests.engines.test_consistency import ctc


def entries(**fields: list[Any]) -> list[Entry]:
    """Lines whose fields have these values, one after the other."""
    count = len(next(iter(fields.values())))
    return [Entry(audio=f"{i}.wav", **{name: values[i] for name, values in fields.items()}) for i in range(count)]


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("Hello, World!", "hello world"),
        ("  it\u2019s   5\u00a0% ", "it's 5"),
        ("well-known", "well known"),
        ("Stra\u00dfe \ufb01n\u00e9", "strasse fin\u00e9"),
        ("\u4f60\u597d\u3002", "\u4f60\u597d"),
    ],
)
def test_what_is_compared_of_a_text(text: str, plain: str) -> None:
    assert normalised(text) == plain


def test_errors_by_what_was_said() -> None:
    said = entries(text=["Turn on the lights!", "four", ""])
    # Two substitutions and an insertion in four words, none in one, an insertion where nothing was said.
    assert error_rate(said, ["turn of the light now", "four", "so"]) == (3 + 0 + 1) / 5
    assert error_rate(entries(text=["a cat"]), ["a cut"], characters=True) == 1 / 5
    assert error_rate(entries(text=["one two"]), [""]) == 1.0
    with pytest.raises(UsageError, match="nothing is said"):
        error_rate(entries(text=["", "..."]), ["one", "two"])


def test_how_often_the_label_is_right() -> None:
    assert accuracy(entries(label=["yes", "no", "no", "yes"]), ["yes", "no", "yes", "yes"]) == 0.75


def test_the_nearest_clip_by_its_angle() -> None:
    clips = entries(group=["a", "a", "b", "b"])
    vectors = [np.array(vector, np.float32) for vector in ([1, 0], [9, 1], [0, 1], [5, 4])]
    # At 0, 6.3, 90 and 38.7 degrees.
    assert nearest(clips, vectors) == [1, 0, 3, 1]
    assert precision_at_1(clips, [1, 0, 3, 1]) == 0.75


def test_a_speaker_is_no_neighbour_of_their_own() -> None:
    vectors = [np.array(vector, np.float32) for vector in ([1, 0], [9, 1], [0, 1])]
    assert nearest(entries(group=["a", "a", "b"], speaker=["one", "one", None]), vectors) == [2, 2, 1]
    with pytest.raises(UsageError, match="no neighbour by another speaker"):
        nearest(entries(group=["a", "a"], speaker=["one", "one"]), vectors[:2])


def test_an_embedding_of_zeros_has_a_neighbour_too() -> None:
    assert nearest(entries(group=["a", "a"]), [np.zeros(2, np.float32), np.ones(2, np.float32)]) == [1, 0]


def test_what_the_lines_have_is_asked() -> None:
    manifest = Manifest.model_validate(ctc())
    assert [each.about for each in asked(entries(text=["one", "two"]), manifest)] == ["text"]
    assert [each.about for each in asked(entries(text=["one"], group=["a"]), manifest)] == ["text", "group"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ({"speaker": ["one"]}, "neither text, label nor group"),
        ({"text": ["one", None]}, "text: 1 of 2 clips have it"),
        ({"label": ["yes"]}, "label: the engine does not classify"),
    ],
)
def test_what_cannot_be_asked_is_refused(lines: dict[str, list[Any]], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        asked(entries(**lines), Manifest.model_validate(ctc()))
