from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import quick, record
from benchmarks.commands import COMMANDS
from benchmarks.records.policy import Policy


def test_every_benchmark_is_run_or_left_out() -> None:
    assert set(quick.RUNS) | quick.LEFT_OUT == set(COMMANDS)
    assert not set(quick.RUNS) & quick.LEFT_OUT


def test_a_benchmark_that_works(capsys: pytest.CaptureFixture[str]) -> None:
    assert quick.main(["policy"]) == 0
    assert capsys.readouterr().out.startswith("ok ")


def test_a_benchmark_that_fails(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quick, "RUNS", {"startup": (("no/such/engine",),)})
    assert quick.main(["startup"]) == 1
    assert "it ended with 1" in capsys.readouterr().out


def test_an_unknown_benchmark_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        quick.main(["slow"])
    assert "slow: it can be of" in capsys.readouterr().err


def test_what_cannot_be_right_is_said(tmp_path: Path) -> None:
    found = record.read(Path(__file__).parents[2] / "benchmarks" / "results" / "policy.json")
    assert isinstance(found, Policy)
    assert list(quick.wrong(found)) == []
    wide = found.cells[0].model_copy(update={"goodput": float("inf")})
    negative = found.model_copy(update={"fixed_ms": -1.0, "cells": (wide,)})
    undrawn = "its chart policy cannot be drawn: a chart without a value"
    assert list(quick.wrong(negative)) == ["goodput is inf", "fixed_ms is -1.0", undrawn]
    assert "its table is empty" in list(quick.wrong(found.model_copy(update={"cells": ()})))
