from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from benchmarks.commands import COMMANDS
from sonant.cli import main


def test_bench_lists_what_can_be_measured(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bench", "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown and command.help in shown for name, command in COMMANDS.items())


@pytest.mark.parametrize("name", COMMANDS)
def test_each_benchmark_has_options_of_its_own(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bench", name, "--help"])
    assert ended.value.code == 0
    assert f"usage: sonant bench {name} " in capsys.readouterr().out


@pytest.mark.parametrize("given", [[], ["speed"]])
def test_what_is_no_benchmark_is_refused_with_those_that_are(
    given: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *given]) == 2
    assert "choose one of latency, " in capsys.readouterr().err


def test_without_a_checkout_it_says_where_to_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = importlib.util.find_spec

    def without(name: str, *arguments: Any) -> Any:
        return None if name == "benchmarks" else found(name, *arguments)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    assert main(["bench", "latency"]) == 1
    assert "from a checkout" in capsys.readouterr().err
