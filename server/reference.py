"""The tables in docs/ that the code has already: what the options, the answers and the errors are.

`python -m server.reference docs` writes them anew, each between `<!-- table: NAME -->` and `<!-- /table -->` in the
pages of a folder. NAME is a class of server/schemas, `errors` or `close codes`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

import server.errors
from server.errors import ApiError
from server.http import closing
from server.schemas import answers, openai, options, stream

TABLE = re.compile(r"(?P<begin><!-- table: (?P<name>.+?) -->\n).*?(?P<end><!-- /table -->)", re.DOTALL)
# The headers that come with an error stand behind its line in the tree of server/errors.py.
TREE_LINE = re.compile(r"(?P<code>\w+) +\+ (?P<header>.+)$", re.MULTILINE)
NULL = {"type": "null"}
KINDS = {"integer": "whole number", "number": "number", "boolean": "true, false", "string": "text", "object": "object"}
BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}

Schema = dict[str, Any]


def rewrite(page: str) -> str:
    """Return `page` with its tables as they are now. Raises KeyError for a table that there is not."""
    return TABLE.sub(lambda found: found["begin"] + table(found["name"]) + found["end"], page)


def table(name: str) -> str:
    """Return the table `name`, as Markdown. Raises KeyError."""
    if name == "errors":
        return _join(_errors())
    if name == "close codes":
        return "".join(f"{line}\n" for line in (closing.__doc__ or "").splitlines() if line.startswith("|"))
    schema = _schemas()[name]
    is_sent = schema.model_config.get("extra") == "forbid"
    return _join(_options(schema) if is_sent else _answer(schema))


def values(schema: Schema) -> str:
    """Return in words what a JSON schema allows, but for null."""
    if "anyOf" in schema:
        return " or ".join(values(one) for one in schema["anyOf"] if one != NULL)
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return f"[{values(schema['items'])}]"
    bounds = [f"{sign} {schema[bound]:g}" for bound, sign in BOUNDS.items() if bound in schema]
    return " ".join([KINDS[schema["type"]], " and ".join(bounds)]).strip()


def _schemas() -> dict[str, type[BaseModel]]:
    return {
        name: found
        for module in (options, answers, openai, stream)
        for name, found in vars(module).items()
        if isinstance(found, type) and issubclass(found, BaseModel)
    }


def _options(schema: type[BaseModel]) -> Iterator[tuple[str, ...]]:
    yield "option", "values", "default", ""
    for name, field in schema.model_json_schema()["properties"].items():
        default = field.get("default")
        text = "" if default is None else f"`{str(default).lower() if isinstance(default, bool) else default}`"
        yield f"`{name}`", values(field), text, field.get("description", "")


def _answer(schema: type[BaseModel]) -> Iterator[tuple[str, ...]]:
    yield "field", "values", ""
    for name, field in schema.model_json_schema(mode="serialization")["properties"].items():
        is_optional = NULL in field.get("anyOf", ()) and "default" not in field
        yield f"`{name}`", values(field) + " or null" * is_optional, field.get("description", "")


def _errors() -> Iterator[tuple[str, ...]]:
    yield "status", "`code`", "`type`", "", "comes with"
    headers = {found["code"]: found["header"] for found in TREE_LINE.finditer(server.errors.__doc__ or "")}
    for error in sorted(_tree(ApiError), key=lambda error: (error.status, error.code)):
        summary = (error.__doc__ or "").partition("\n")[0]
        yield str(error.status), f"`{error.code}`", f"`{error.type}`", summary, headers.get(error.code, "")


def _tree(error: type[ApiError]) -> Iterator[type[ApiError]]:
    yield error
    for child in error.__subclasses__():
        yield from _tree(child)


def _join(rows: Iterator[tuple[str, ...]]) -> str:
    head, *body = rows
    lines = [head, ("---",) * len(head), *body]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


if __name__ == "__main__":
    for path in sorted(Path(sys.argv[1]).glob("*.md")):
        path.write_text(rewrite(path.read_text()))
