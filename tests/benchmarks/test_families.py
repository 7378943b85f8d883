from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import record
from benchmarks.exports import families
from benchmarks.records.exports import Families
from tests.zoo import Specimen, kinds


def test_a_class_is_taken_from_checkpoint_to_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(families, "specimens", lambda kind: [("", Specimen("HubertForCTC"))])
    output = tmp_path / "families.json"
    assert families.main(["--families", "hubert", "--output", str(output)]) == 0
    result = record.read(output)
    assert isinstance(result, Families)
    [cell] = result.cells
    assert set(cell.answers) == {"encode", "transcribe"}
    assert cell.answers["transcribe"] == 0
    assert 0 < max(cell.alone, cell.batch, cell.answers["encode"]) <= 1e-5
    header, [row] = result.table
    assert dict(zip(header, row, strict=True))["transcribe"] == "equal"
    assert dict(zip(header, row, strict=True))["classify"] == "-"


def test_every_class_of_every_family_is_taken() -> None:
    for kind in kinds().values():
        taken = {specimen.architecture for _, specimen in families.specimens(kind)}
        assert taken == set(kind.architectures)


def test_an_unknown_family_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        families.main(["--families", "whale"])
    assert "--families whale" in capsys.readouterr().err
