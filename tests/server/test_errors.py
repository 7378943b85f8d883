import re

import pytest

import server.errors
from server.errors import ApiError, codes, quoted


def all_errors(root: type[ApiError] = ApiError) -> list[type[ApiError]]:
    return [root, *(found for child in root.__subclasses__() for found in all_errors(child))]


@pytest.mark.parametrize("kind", all_errors())
def test_the_docstring_draws_what_the_classes_are(kind: type[ApiError]) -> None:
    [line] = [line for line in str(server.errors.__doc__).splitlines() if re.search(rf"\b{kind.__name__}\b", line)]
    depth = len(kind.__mro__) - len(ApiError.__mro__) - (ValueError in kind.__mro__)
    assert line.index(kind.__name__) == 3 * depth
    assert f" {kind.status} " in line
    assert kind.code in line.split()


def test_codes_are_unique() -> None:
    assert list(codes()) == [kind.code for kind in all_errors()]
    assert len(set(codes())) == len(all_errors())


def test_what_is_repeated_of_a_client_is_cut() -> None:
    assert quoted("tiny") == "'tiny'"
    assert quoted("x" * 1_000_000) == f"'{'x' * 100}...'"
    assert ApiError("wrong", "x" * 1_000_000).param == "x" * 100 + "..."
