from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from engines.manifest import Task
from server.models.defaults import Defaults
from server.models.model import Model


def model(name: str, tasks: Sequence[Task] | None) -> Model:
    made = Model(name)
    if tasks is not None:
        made.engine = cast(Any, SimpleNamespace(manifest=SimpleNamespace(tasks=tuple(tasks))))
    return made


def models(**tasks: Sequence[Task] | None) -> dict[str, Model]:
    return {name: model(name, its) for name, its in tasks.items()}


def test_the_only_model_of_a_task_is_its_default() -> None:
    defaults = Defaults({}, models(a=["encode", "transcribe"], b=["encode"]))
    assert defaults.get("transcribe") == "a"
    assert defaults.get("encode") is None
    assert defaults.get("classify") is None


def test_what_is_set_holds() -> None:
    assert Defaults({"encode": "b"}, models(a=["encode"], b=["encode"])).get("encode") == "b"


def test_a_default_whose_engine_cannot_be_read_may_come_later() -> None:
    assert Defaults({"encode": "a"}, models(a=None)).get("encode") == "a"


@pytest.mark.parametrize("declared", [{"encode": "nobody"}, {"transcribe": "a"}])
def test_what_cannot_be_set(declared: dict[Task, str]) -> None:
    with pytest.raises(ValueError, match="the default of"):
        Defaults(declared, models(a=["encode"]))


def test_models_that_come_do_not_change_a_default_but_may_be_the_first() -> None:
    there = models(a=["encode"])
    defaults = Defaults({}, there)
    there["b"] = model("b", ["encode", "classify"])
    defaults.settle(there.values())
    assert defaults.get("encode") == "a"
    assert defaults.get("classify") == "b"


def test_what_a_replacement_would_leave_without_a_default() -> None:
    defaults = Defaults({}, models(a=["encode", "classify"]))
    assert defaults.lost("a", ["encode"]) == ["classify"]
    assert defaults.lost("a", ["classify", "encode", "transcribe"]) == []
    assert defaults.lost("b", []) == []
