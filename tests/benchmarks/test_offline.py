from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import record, report
from benchmarks.audio.offline import ENDED, Command, main, task_of
from benchmarks.records.offline import Offline, OfflineCell
from engines.manifest import Manifest
from sonant.runs.progress import Totals

ENGINES = Path(__file__).parents[2] / "demo/engines"


def test_the_command_is_measured_against_its_engine(tmp_path: Path) -> None:
    output = tmp_path / "result.json"
    options = ["--files=6", "--lengths=0.3,0.6", "--rounds=1", "--seconds=0", f"--cache={tmp_path}"]
    assert main(["demo/engines/sew-commands-english", *options, f"--output={output}"]) == 0
    found = record.read(output)
    assert isinstance(found, Offline)
    [cell] = found.cells
    assert (cell.task, cell.files, cell.rounds) == ("classify", 6, 1)
    assert 1.8 <= cell.audio_seconds <= 3.6
    assert min(cell.command, cell.alone, cell.batched, cell.ratio.value) > 0
    assert cell.command_cpu_seconds > cell.engine_cpu_seconds > 0
    assert cell.start_seconds > 0
    assert "sew-commands-english" in report.section(found)


def test_what_is_asked_of_an_engine() -> None:
    asked = {path.name: task_of(Manifest.read(path)) for path in ENGINES.iterdir()}
    assert asked["hubert-ctc-english"] == "transcribe"
    assert asked["sew-commands-english"] == "classify"
    assert asked["hubert-translate-english-german"] == "encode"


def test_a_run_with_a_file_that_fails_is_not_measured(tmp_path: Path) -> None:
    (tmp_path / "0.wav").touch()
    command = Command("classify", tmp_path, [f"--model={ENGINES / 'sew-commands-english'}"])
    with pytest.raises(ValueError, match="audio_empty"):
        command()


def test_how_the_command_ends_is_understood() -> None:
    ended = ENDED.search(f"sonant: {Totals(5, done=5, audio_seconds=6, run_seconds=2, start_seconds=1.5)}")
    assert ended is not None
    assert ended.groups() == ("5", "5", "2.000", "1.500")


def test_a_missed_promise_is_said() -> None:
    cell: dict[str, Any] = {
        "model": "m",
        "task": "encode",
        "parameters": 10,
        "files": 2,
        "audio_seconds": 3.0,
        "rounds": 1,
        "command": 1.0,
        "alone": 2.0,
        "batched": 1.0,
        "ratio": {"value": 0.5, "low": 0.4, "high": 0.6},
        "start_seconds": 1.0,
        "command_cpu_seconds": 1.0,
        "engine_cpu_seconds": 1.0,
    }
    cells = (OfflineCell.model_validate(cell),)
    fields: dict[str, Any] = {
        "lengths": (1.0, 2.0),
        "file_format": "flac",
        "batch_seconds": 10.0,
        "workers": 1,
        "cells": cells,
    }
    found = Offline.model_construct(**fields)
    assert "missed by m" in found.summary
