from __future__ import annotations

import argparse
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from server.schemas.options import ClassifyOptions, EncodeOptions, TranscribeOptions
from sonant.runs import flags
from sonant.runs.errors import UsageError


class Some(BaseModel):
    choice: Annotated[Literal["one", "two"], Field(description="100 % of it.")] = "one"
    several: int | list[int] | None = None
    some_flag: bool = False
    positive: Annotated[float | None, Field(gt=0)] = None


def parsed(schema: type[BaseModel], *arguments: str) -> dict[str, Any]:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    flags.add(parser, schema)
    return flags.read(schema, parser.parse_args(arguments))


def test_what_was_not_given_is_not_there() -> None:
    assert parsed(Some) == {}
    given = parsed(Some, "--choice=two", "--several", "1", "--several", "2", "--some-flag", "--positive", "0.5")
    assert Some.model_validate(given) == Some(choice="two", several=[1, 2], some_flag=True, positive=0.5)
    assert Some.model_validate(parsed(Some, "--several", "3", "--no-some-flag")) == Some(several=3)


def test_a_value_that_cannot_be_is_named_by_its_flag() -> None:
    with pytest.raises(UsageError, match=r"^--positive: Input should be greater than 0$"):
        parsed(Some, "--positive", "0")
    with pytest.raises(UsageError, match="--several"):
        parsed(Some, "--several", "x")


@pytest.mark.parametrize("schema", [TranscribeOptions, EncodeOptions, ClassifyOptions, Some])
def test_every_option_is_a_flag_with_its_description(schema: type[BaseModel]) -> None:
    parser = argparse.ArgumentParser()
    flags.add(parser, schema)
    text = " ".join(parser.format_help().split())
    for name, field in schema.model_fields.items():
        assert flags.flag(name) in text
        assert " ".join((field.description or "").split()) in text
