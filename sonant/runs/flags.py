"""The options of a task as flags: an option that is new on the server is one here."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from sonant.runs.errors import UsageError


def add(parser: argparse._ActionsContainer, schema: type[BaseModel], without: frozenset[str] = frozenset()) -> None:
    """Add a flag for each option of `schema`, which has its description as help."""
    for name, field in schema.model_fields.items():
        if name not in without:
            parser.add_argument(flag(name), dest=name, default=None, help=_help(field), **_kind(name, field))


def flag(name: str) -> str:
    """Return the flag of the option `name`."""
    return "--" + name.replace("_", "-")


def read(schema: type[BaseModel], arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the options that were given, as they were given. Raises UsageError where one cannot be."""
    given = {name: getattr(arguments, name, None) for name in schema.model_fields}
    given = {name: _unpacked(value) for name, value in given.items() if value is not None}
    try:
        schema.model_validate(given)
    except ValidationError as error:
        lines = [f"{flag(str(one['loc'][0])) if one['loc'] else ''}: {one['msg']}" for one in error.errors()]
        raise UsageError("\n".join(dict.fromkeys(lines))) from None
    return given


def _kind(name: str, field: FieldInfo) -> dict[str, Any]:
    """Return how the flag is parsed; what its value may be is left to the schema."""
    kinds = list(_leaves(field.annotation))
    if bool in kinds:
        return {"action": argparse.BooleanOptionalAction}
    metavar = name.rpartition("_")[2].upper()
    if list in kinds or tuple in kinds:
        return {"action": "append", "metavar": metavar}
    words = [word for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)]
    return {"choices": words} if words else {"metavar": metavar}


def _leaves(annotation: Any) -> Iterator[Any]:
    """Yield the types that `annotation` is made of; lists as such, and what they hold."""
    origin = get_origin(annotation)
    if origin in (list, tuple):
        yield origin
    if origin is None or origin is Literal:
        yield annotation
        return
    for inner in get_args(annotation):
        yield from _leaves(inner)


def _help(field: FieldInfo) -> str:
    default = field.default
    shown = "" if default is None or field.is_required() else f" (default: {str(default).lower()})"
    several = " Repeat it for several." if list in list(_leaves(field.annotation)) else ""
    return f"{field.description or ''}{several}{shown}".replace("%", "%%")  # a percent sign would be argparse's


def _unpacked(value: Any) -> Any:
    """Return what was given once as such: a list is of what was repeated."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value
