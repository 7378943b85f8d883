"""Mocks of the classes of TensorRT's bindings that take only the calls that the real ones would take.

`create_autospec` gives them the names of the real classes. pybind11 tells it nothing of signatures, so these come from
the stubs: the number, names and types of the arguments of every call are checked.
"""

from __future__ import annotations

import ast
import collections.abc
import ctypes
import inspect
import typing
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import NonCallableMagicMock, create_autospec

import typing_extensions

Behaviours = dict[str, Callable[..., Any]]


class Strict:
    """Makes mocks of the classes of one version of the bindings."""

    def __init__(self, bindings: ModuleType, stubs: Path) -> None:
        self._bindings = bindings
        self._made: list[tuple[str, NonCallableMagicMock, set[str]]] = []
        self._names = {
            "typing": typing,
            "typing_extensions": typing_extensions,
            "collections": collections,
            "ctypes": ctypes,
            **{name: value for name, value in vars(bindings).items() if isinstance(value, type)},
        }
        tree = ast.parse((stubs / "tensorrt_bindings" / "tensorrt.pyi").read_text())
        self._classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}

    def mock(self, name: str, behaviours: Behaviours | None = None) -> NonCallableMagicMock:
        """Return an instance of the class called `name`; `behaviours` are what its methods do, by their names."""
        made: NonCallableMagicMock = create_autospec(getattr(self._bindings, name), instance=True, spec_set=True)
        for method, behaviour in (behaviours or {}).items():
            getattr(made, method).side_effect = self._checked(name, method, behaviour)
        self._made.append((name, made, set(behaviours or ())))
        return made

    def unexpected(self) -> list[str]:
        """Return the calls, since it was last asked, of methods that nobody gave a behaviour."""
        made, self._made = self._made, []
        calls = [(name, call[0].partition(".")[0], known) for name, mock, known in made for call in mock.method_calls]
        return [f"{name}.{method}" for name, method, known in calls if method not in known]

    def maker(self, name: str, make: Callable[..., Any]) -> Callable[..., Any]:
        """Return what stands for the class called `name`, whose constructor's arguments are checked."""
        return self._checked(name, "__init__", make)

    @cache  # noqa: B019  # there are two instances at most
    def _methods(self, name: str) -> dict[str, list[ast.FunctionDef]]:
        """Return the methods of a class, each with its overloads."""
        node, found = self._classes[name], dict[str, list[ast.FunctionDef]]()
        for base in node.bases:
            found |= self._methods(base.id) if isinstance(base, ast.Name) else {}
        own = [each for each in node.body if isinstance(each, ast.FunctionDef)]
        return found | {name: [each for each in own if each.name == name] for name in {each.name for each in own}}

    @cache  # noqa: B019
    def _signatures(self, name: str, method: str) -> list[inspect.Signature]:
        return [self._signature(node) for node in self._methods(name)[method]]

    def _checked(self, name: str, method: str, behaviour: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            problems = [self._problem(signature, arguments, named) for signature in self._signatures(name, method)]
            if None not in problems:
                raise TypeError(f"{name}.{method}: {problems[0]}")
            return behaviour(*arguments, **named)

        return call

    def _signature(self, node: ast.FunctionDef) -> inspect.Signature:
        bare = ast.FunctionDef(node.name, node.args, [ast.Pass()], [], None, lineno=1, col_offset=0)
        tree = ast.parse("from __future__ import annotations")
        tree.body.append(bare)
        made: dict[str, Any] = {}
        exec(compile(ast.fix_missing_locations(tree), node.name, "exec"), dict(self._names), made)  # noqa: S102
        signature = inspect.signature(made[node.name])
        return signature.replace(parameters=list(signature.parameters.values())[1:])  # without self

    def _problem(self, signature: inspect.Signature, arguments: Any, named: Any) -> str | None:
        try:
            bound = signature.bind(*arguments, **named)
        except TypeError as error:
            return str(error)
        for name, value in bound.arguments.items():
            parameter = signature.parameters[name]
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                continue
            wanted = self._type(parameter.annotation)
            if not (fits(value, wanted) or (value is None and parameter.default is None)):
                return f"{name} is {value!r}, not {parameter.annotation}"
        return None

    def _type(self, annotation: Any) -> Any:
        return eval(annotation, dict(self._names)) if isinstance(annotation, str) else typing.Any  # noqa: S307


def fits(value: object, wanted: Any) -> bool:
    """Whether `value` is of the type `wanted`, as far as its outermost type goes."""
    wanted = typing.get_origin(wanted) or wanted
    if wanted in (typing.Any, ...):
        return True
    if wanted is typing.SupportsInt:  # pybind11 takes what is an integer, not what can be made one
        return isinstance(value, int) or hasattr(value, "__index__")
    if wanted is bool:
        return isinstance(value, bool)
    return isinstance(value, wanted)
