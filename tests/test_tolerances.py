"""The README's table of tolerances states the values that the code has."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text()
ROWS = re.findall(r"^\| `([\w.]+)\.([A-Z_]+)(?:\[\"(\w+)\"\])?` \| ([-\de.]+) \|", README, re.MULTILINE)


@pytest.mark.parametrize(("module", "name", "key", "stated"), ROWS)
def test_the_value_is_that_of_the_code(module: str, name: str, key: str, stated: str) -> None:
    value = getattr(importlib.import_module(module), name)
    assert float(stated) == (value[key] if key else value)


def test_the_table_is_there() -> None:
    assert len(ROWS) == 9
