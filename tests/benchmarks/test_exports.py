from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import record
from benchmarks.exports import true_size
from benchmarks.records.exports import Exports


def test_export_and_service_of_a_model_are_measured(cache: Path) -> None:
    output = cache / "exports.json"
    options = ["--models", "tiny", "--length", "0.5", "--cache", str(cache), "--output", str(output)]
    assert true_size.main(options) == 0
    result = record.read(output)
    assert isinstance(result, Exports)
    [cell] = result.cells
    assert (cell.model, cell.architecture) == ("tiny", "HubertModel")
    assert 0 < cell.error <= 1e-5
    assert cell.export_seconds > cell.verify_seconds > cell.request_seconds > 0
    assert cell.export_peak_gib > cell.serve_peak_gib > 0.05
    assert cell.engine_bytes > 4 * cell.parameters
    assert not list(cache.glob("tmp*"))


def test_peak_memory_is_that_of_the_command_alone() -> None:
    assert 0.005 < true_size.sonant(["--version"]).peak_gib < 0.05  # this process has torch


def test_an_unknown_model_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        true_size.main(["--models", "huge"])
    assert "--models huge" in capsys.readouterr().err


def test_a_command_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not an engine"):
        true_size.sonant(["verify", str(tmp_path)])
