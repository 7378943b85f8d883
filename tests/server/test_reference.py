from __future__ import annotations

from typing import Any

import pytest

from server.reference import rewrite, table, values


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"enum": ["none", "word"]}, "`none`, `word`"),
        ({"const": "list"}, "`list`"),
        ({"type": "boolean"}, "true, false"),
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 1}, "number > 0 and ≤ 1"),
        ({"type": "integer", "minimum": 0}, "whole number ≥ 0"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "text"),
        ({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}, "text or [text]"),
        ({"type": "array", "items": {"$ref": "#/$defs/WordItem"}}, "[WordItem]"),
        ({"type": "object", "additionalProperties": {"type": "number"}}, "object"),
    ],
)
def test_what_a_schema_allows_in_words(schema: dict[str, Any], words: str) -> None:
    assert values(schema) == words


def test_the_table_of_options() -> None:
    lines = table("ClassifyOptions").splitlines()
    assert lines[0] == "| option | values | default |  |"
    assert "| `top_k` | whole number > 0 | `5` | How many labels; all, if there are fewer. |" in lines
    assert any(line.startswith("| `timeline` | true, false | `false` | ") for line in lines)


def test_the_table_of_an_answer_says_what_may_be_null() -> None:
    lines = table("TranscriptItem").splitlines()
    assert any(line.startswith("| `confidence` | number or null | ") for line in lines)
    assert any(line.startswith("| `words` | [WordItem] | ") for line in lines)


def test_the_table_of_errors() -> None:
    lines = table("errors").splitlines()[2:]
    assert lines == sorted(lines)
    assert any(line.startswith("| 413 | `audio_too_long` | `invalid_request_error` | ") for line in lines)
    [full] = [line for line in lines if "`queue_full`" in line]
    assert full.endswith("| Retry-After |")


def test_the_table_of_close_codes() -> None:
    assert table("close codes").startswith("| code | when | ")


def test_only_what_is_between_the_marks_is_written_anew() -> None:
    page = "before\n\n<!-- table: LabelItem -->\nold\n<!-- /table -->\n\nbehind\n"
    assert rewrite(page) == page.replace("old\n", table("LabelItem"))
    assert rewrite(rewrite(page)) == rewrite(page)


def test_a_table_that_there_is_not() -> None:
    with pytest.raises(KeyError, match="Nothing"):
        rewrite("<!-- table: Nothing -->\n<!-- /table -->\n")
