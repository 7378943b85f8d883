from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import record
from benchmarks.engines import change
from benchmarks.machine import ROOT
from benchmarks.records.change import Changes

OTHER = ROOT / "demo" / "engines" / "hubert-ctc-english"


def run(output: Path, *options: str) -> Changes:
    assert change.main(["--quick", "--output", str(output), *options]) == 0
    found = record.read(output)
    assert isinstance(found, Changes)
    return found


def test_rows_join_those_of_other_changes(tmp_path: Path) -> None:
    output = tmp_path / "changes.json"
    run(output, "--what", "one")
    run(output, "--what", "another")
    found = run(output, "--what", "one")  # in place of the first
    assert [cell.what for cell in found.cells] == ["another", "one"]
    for cell in found.cells:
        assert (cell.model, cell.form, cell.seconds) == ("sew-commands-english", "onnxruntime/fp32", 0.5)
        assert cell.difference == 0.0
        assert 0 < cell.ratio.low <= cell.ratio.value <= cell.ratio.high
    header, rows = found.table
    assert {len(row) for row in rows} == {len(header)}


def test_what_would_be_lost_is_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "changes.json"
    found = run(output, "--what", "one")
    elsewhere = found.run.model_copy(update={"machine": found.run.machine.model_copy(update={"cpu": "another"})})
    record.write(found.model_copy(update={"run": elsewhere}), output)
    for text, problem in ((output.read_text(), "another machine"), ("{}", "no changes that can be read")):
        output.write_text(text)
        assert change.main(["--quick", "--output", str(output)]) == 1
        assert problem in capsys.readouterr().err
        assert output.read_text() == text


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--quick", str(change.QUICK), str(OTHER)], "two checkpoints"),
        (["--quick", str(change.QUICK), "nowhere"], "nowhere"),
        (["--quick", "--forms", "openvino/int8"], "has no openvino/int8"),
        (["--quick", "--lengths", "1000"], "nothing to measure"),
    ],
)
def test_what_cannot_be_compared(arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert change.main(arguments) == 1
    assert problem in capsys.readouterr().err


def test_what_must_be_said(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        change.main([str(change.QUICK), str(change.QUICK)])
    assert "--what" in capsys.readouterr().err
