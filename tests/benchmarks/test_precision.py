"""The command on an engine of the demo, whose other forms are itself under other names; no export is waited for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks import machine, models, record, report
from benchmarks.engines import all_forms, precision, side_by_side
from benchmarks.exports import true_size
from benchmarks.exports.true_size import Usage
from benchmarks.interleave import interleave
from benchmarks.machine import ROOT
from benchmarks.records.precision import AIM_FLAGS, FormCell, FormTime, LengthCell, Precision, Precisions
from benchmarks.stats import Estimate, Timing
from engines.manifest import BASE, MANIFEST_NAME, Quality

NAME = "sew-commands-english"
INT8, BF16 = "onnxruntime/int8", "onnxruntime/bf16"
Run = Callable[..., int]


class Exporter:
    """Stands in for `sonant export`: the demo's engine, with the forms that were asked for; `refused` ones fail."""

    def __init__(self) -> None:
        self.exported: list[str] = []
        self.refused: set[str] = set()

    def __call__(self, arguments: Sequence[str]) -> Usage:
        given = dict(zip(arguments[2::2], arguments[3::2], strict=False))
        precisions = given["--precision"].split(",")
        self.exported.append(given["--precision"])
        if refused := self.refused.intersection(precisions):
            raise ValueError(f"sonant export failed: much\nsonant: {min(refused)} is out of bounds\n")
        folder = Path(shutil.copytree(ROOT / "demo" / "engines" / NAME, arguments[3]))
        data = json.loads((folder / MANIFEST_NAME).read_text())
        [full] = data["graphs"]
        for each in {*precisions} - {"fp32"}:
            devices = ["cuda" if each == "bf16" else "cpu"]
            data["graphs"].append(full | {"name": each, "precision": each, "devices": devices})
        (folder / MANIFEST_NAME).write_text(json.dumps(data))
        return Usage(0.0, 0.0)


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> Exporter:
    exporter = Exporter()
    monkeypatch.setattr(true_size, "sonant", exporter)
    monkeypatch.setattr(all_forms, "possible", lambda *_: [INT8, BF16])
    monkeypatch.setattr(models, "sources", lambda: "as they are")  # whoever edits the exporter meanwhile
    return exporter


@pytest.fixture
def held_out(tmp_path: Path) -> Path:
    """Two words, of which one is said to be the other."""
    folder = tmp_path / "held-out"
    (folder / NAME).mkdir(parents=True)
    lines = [{"audio": str(ROOT / f"demo/audio/words/{word}.flac"), "label": "yes"} for word in ("yes", "no")]
    (folder / NAME / "clips.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return folder


@pytest.fixture
def run(exporter: Exporter, held_out: Path, tmp_path: Path) -> Run:
    options = f"--lengths=0.5,1,90 --seconds=0 --rounds=2 --cache={tmp_path} --held-out={held_out} --results={tmp_path}"
    return lambda *more: precision.main([str(ROOT / "demo/checkpoints" / NAME), *options.split(), *more])


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many sides were timed in each cell, as it comes."""
    cells: list[int] = []

    def counted(contestants: Any, *more: Any) -> Any:
        cells.append(len(contestants))
        return interleave(contestants, *more)

    monkeypatch.setattr(side_by_side, "interleave", counted)
    return cells


def result(folder: Path) -> Precision:
    found = record.read(folder / f"precision-{NAME}.json")
    assert isinstance(found, Precision)
    return found


def test_every_form_that_runs_here_is_measured(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    assert ("without" in capsys.readouterr().err) == (not {*AIM_FLAGS} <= {*machine.describe().flags})
    found = result(tmp_path)
    assert found.complete
    cells = {cell.form: cell for cell in found.forms}
    assert list(cells) == [BASE, INT8, BF16, "tensorrt"]
    assert cells[BF16].reason == "it is of no use on cpu"
    assert cells[BF16].bytes == cells[BASE].bytes
    assert [cell.seconds for cell in found.lengths] == [0.5, 1.0]  # the engine takes no clips of 90 s
    for cell in found.lengths:
        assert set(cell.forms) == {BASE, INT8}
        assert all(time.error < 1e-4 and time.cosine > 0.9999 for time in cell.forms.values())
    [quality] = cells[INT8].quality
    assert (quality.measure, quality.value, quality.agreement, quality.clips) == ("top_1", 0.5, 1.0, 2)
    text = report.section(found)
    assert "| onnxruntime/bf16 |" in text
    assert "Not run here: onnxruntime/bf16: it is of no use on cpu; tensorrt: its plans are built on" in text
    assert len({line.count("|") for line in text.splitlines() if line.startswith("|")}) == 1


def test_a_run_that_was_stopped_goes_on(
    run: Run, exporter: Exporter, timed: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(precision, "evaluate", stop)
        with pytest.raises(KeyboardInterrupt):
            run()
    first = result(tmp_path)
    assert (timed, first.complete) == ([3, 3], False)
    record.write(first.model_copy(update={"lengths": first.lengths[:1]}), tmp_path / f"precision-{NAME}.json")
    assert run() == 0
    assert timed == [3, 3, 3]  # the length that was missing
    assert result(tmp_path).lengths[0] == first.lengths[0]
    assert result(tmp_path).complete
    assert run() == 0  # there is nothing to do
    assert timed == [3, 3, 3]
    assert run("--seed=1", "--remove") == 0  # something else is measured
    assert timed == [3, 3, 3, 3, 3]
    assert exporter.exported == ["int8,bf16"]
    assert not list((tmp_path / "forms").iterdir())


def test_a_form_that_cannot_be_exported_leaves_the_others(run: Run, exporter: Exporter, tmp_path: Path) -> None:
    exporter.refused = {"int8"}
    assert run("--lengths=0.5") == 0
    cells = {cell.form: cell for cell in result(tmp_path).forms}
    assert (cells[INT8].reason, cells[INT8].bytes) == ("int8 is out of bounds", None)
    assert (cells[BASE].reason, cells[BF16].reason) == ("", "it is of no use on cpu")
    attempts = ["int8,bf16", "fp32", "int8", "bf16"]
    assert exporter.exported == attempts
    assert run("--lengths=0.5", "--anew") == 0
    assert exporter.exported == attempts  # what failed will fail again


def test_a_model_that_cannot_be_measured_is_named(
    run: Run, exporter: Exporter, capsys: pytest.CaptureFixture[str]
) -> None:
    exporter.refused = {"fp32", "int8"}
    assert run() == 1
    assert f"{NAME}: fp32 is out of bounds" in capsys.readouterr().err


def test_an_export_that_was_killed_is_tried_again(
    run: Run, exporter: Exporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(arguments: Sequence[str]) -> Usage:
        raise ValueError("sonant export failed: ")

    with monkeypatch.context() as patched:
        patched.setattr(true_size, "sonant", killed)
        assert run("--lengths=0.5") == 1
    assert run("--lengths=0.5") == 0
    assert exporter.exported == ["int8,bf16"]


def test_the_forms_that_the_exporter_knows() -> None:
    assert all_forms.possible(("fp32", "fp16"), ("onnxruntime",)) == ["onnxruntime/fp16"]


def measured(name: str, flags: Sequence[str] = AIM_FLAGS, cosine: float = 0.9995) -> Precision:
    """A record of one length, with one form beside fp32."""
    estimate = {form: Estimate(value=value, low=value, high=value) for form, value in ((BASE, 1.1), (INT8, 1.9))}
    host = machine.describe().model_copy(update={"flags": tuple(flags)})
    timing = Timing(median_ms=100.0, p95_ms=110.0)
    times = {form: FormTime(time=timing, ratio=each, error=0.01, cosine=cosine) for form, each in estimate.items()}
    quality = Quality(measure="top_1", value=0.9, fp32=0.91, agreement=0.985, clips=200, data="words")
    cells = (FormCell(form=BASE), FormCell(form=INT8, bytes=1_000_000, error=0.01, cosine=cosine, quality=(quality,)))
    run = {"model": name, "parameters": 1, "threads": 1, "seed": 0, "date": "2026-01-01", "commit": None}
    length = LengthCell(seconds=10, rounds=5, torch=timing, forms=times)
    return Precision.model_validate(
        {"run": {**run, "machine": host, "versions": {}}, "key": "", "forms": cells, "lengths": (length,)}
    )


def test_the_aims_hold_where_the_processor_has_what_they_need() -> None:
    [met] = measured("hubert-base").aims()
    assert "onnxruntime/int8 1.90 of 1.7 (met)" in met
    assert "openvino/bf16 MISSED" in met
    assert "the best form 1.90 of 2.8 (MISSED)" in met
    [far] = measured("hubert-base", cosine=0.998).aims()
    assert "onnxruntime/int8 MISSED" in far
    [skipped] = measured("ast-base", ["avx512_vnni"]).aims()
    assert "this one lacks avx512_bf16" in skipped
    assert measured("sew-small").aims() == []


def test_all_models_at_a_glance() -> None:
    found = Precisions(records=(measured("one"), measured("two")))
    header, rows = found.table
    assert header == ["model", "clip", "torch", BASE, INT8]
    assert rows[1] == ["two", "10 s", "100.0 ms", "1.10", "1.90, 0.9995, 98.5%"]
    assert "### Precisions\n" in report.section(found)
