from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import markdown, models, record
from benchmarks.charts.draw import draw
from benchmarks.engines import cells, latency, memory, roofline, side_by_side
from benchmarks.engines.eager import Eager
from benchmarks.interleave import interleave
from benchmarks.machine import ROOT
from benchmarks.records.cells import Cell, FormCell, FormNote, Rest, SubjectCells
from benchmarks.records.latency import Latency
from benchmarks.stats import Estimate, Tail
from engines.manifest import BASE, MANIFEST_NAME

ENGINE, CHECKPOINT = (ROOT / "demo" / name / "sew-commands-english" for name in ("engines", "checkpoints"))
INT8 = "onnxruntime/int8"


def test_every_cell_has_figures(latency_record: Latency) -> None:
    [subject] = latency_record.subjects
    assert subject.complete
    assert [(cell.seconds, cell.batch) for cell in subject.cells] == [(0.5, 1), (1.0, 1), (0.5, 2), (1.0, 2)]
    for cell in subject.cells:
        assert cell.rounds >= 3
        found = cell.forms[BASE]
        assert cell.transformers is not None
        for time in (found.time, cell.transformers):
            assert 0 < time.median_ms <= time.p95_ms <= time.p99_ms < math.inf
        assert found.ratio is not None
        for estimate in (found.ratio, found.share):
            assert 0 < estimate.low <= estimate.value <= estimate.high < math.inf
        assert found.error <= 1e-5
        assert found.cosine > 0.999999
        assert found.peak_gib is None or 0.02 < found.peak_gib < 2.0
    assert subject.cells[3].operations == 2 * subject.cells[1].operations > 2 * subject.cells[0].operations


def test_the_run_is_described(latency_record: Latency) -> None:
    run = latency_record.run
    assert (run.model, run.threads, run.seed) == ("tiny", 1, 0)
    assert run.parameters > 0
    assert latency_record.subjects[0].attention == "sdpa"
    assert [roof.precision for roof in latency_record.roofs] == ["fp32", "bf16", "int8"]


def test_the_section_and_the_charts(latency_record: Latency) -> None:
    text = markdown.section(latency_record)
    assert "### Latency: tiny, 1 thread" in text
    assert "<summary>tiny (0.0316 M parameters), cell by cell</summary>" in text
    assert all(draw(chart).startswith("<svg") for chart in latency_record.charts)
    for header, rows in (latency_record.table, *(table for _, table in latency_record.tables)):
        assert {len(row) for row in rows} == {len(header)}


@pytest.mark.usefixtures("results")
def test_wrong_embeddings_are_not_timed(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = Eager.__call__
    monkeypatch.setattr(Eager, "__call__", lambda self, clips: [np.flip(row, 0) for row in right(self, clips)])
    monkeypatch.setattr(memory, "peaks", lambda *_: {})
    assert latency.main(["--quick", "--cache", str(cache)]) == 1
    assert "tiny: the embeddings of onnxruntime/fp32 differ from transformers" in capsys.readouterr().err


@pytest.mark.usefixtures("results")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--lengths", "0.001"], "the engine takes"),
        (["--batches", "2", "--batch-seconds", "0.1"], "nothing to measure"),
        (["--model", "nobody"], "there is no such model"),
        (["--engine", "nowhere"], "nowhere is not an engine"),
        (["--engine", str(ENGINE), "--forms", "openvino/bf16"], "openvino/bf16: the engine does not have it"),
    ],
)
def test_what_cannot_be_measured_is_said(
    options: list[str], message: str, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert latency.main(["--quick", "--cache", str(cache), *options]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("options", [["--batches", "0"], ["--lengths", "one"], ["--threads", "-1"]])
def test_wrong_usage(options: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        latency.main(options)


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    """One of the demo with a form more, which is itself under another name and takes one clip at a time."""
    folder = tmp_path / "two-forms"
    shutil.copytree(ENGINE, folder)
    data = json.loads((folder / MANIFEST_NAME).read_text())
    [full] = data["graphs"]
    data["graphs"].append(full | {"name": "int8", "precision": "int8", "max_rows": 1})
    (folder / MANIFEST_NAME).write_text(json.dumps(data))
    return folder


@pytest.fixture
def run(engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Latency]:
    """The command on that engine, whose memory is not measured; it returns what was written."""
    monkeypatch.setattr(memory, "peaks", lambda side, sizes, threads: dict.fromkeys(sizes, 0.25))
    monkeypatch.setattr(cells, "SHARE", math.inf)  # every cell says what takes the rest, however fast it is
    output = tmp_path / "latency.json"
    options = f"--engine {engine} --checkpoint {CHECKPOINT} --quick --lengths=0.5,90 --output={output}".split()

    def run(*more: str) -> Latency:
        assert latency.main([*options, "--forms", f"{BASE},{INT8}", *more]) == 0
        found = record.read(output)
        assert isinstance(found, Latency)
        return found

    return run


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Who was timed in each cell, as it comes."""
    asked: list[list[str]] = []

    def noted(contestants: Any, *more: Any) -> Any:
        asked.append(list(contestants))
        return interleave(contestants, *more)

    monkeypatch.setattr(side_by_side, "interleave", noted)
    return asked


def test_forms_are_timed_in_turn_with_the_products_of_their_precisions(
    run: Callable[..., Latency], timed: list[list[str]]
) -> None:
    [subject] = run().subjects
    assert timed == [["torch", BASE, INT8, "fp32", "int8"]] * 2
    assert [(cell.seconds, cell.batch) for cell in subject.cells] == [(0.5, 1), (0.5, 2)]  # it takes no clips of 90 s
    assert [note.one_by_one for note in subject.forms] == [False, True]
    assert subject.cells[1].forms[INT8].peak_gib == 0.25
    for found in (cell.forms[form].rest for cell in subject.cells for form in (BASE, INT8)):
        assert found is not None
        assert {"front end", "convolutions", "products", "session", "Python"} <= set(found.kinds)
        assert sum(found.kinds.values()) < 1.0  # they add up to what lacks from the whole
        assert found.weights > 0.0


def test_without_transformers_the_exact_form_is_the_truth(run: Callable[..., Latency], timed: list[list[str]]) -> None:
    found = run("--no-transformers", "--batches=2")
    assert timed == [[BASE, INT8, "fp32", "int8"]]
    [cell] = found.subjects[0].cells
    assert (cell.transformers, cell.forms[INT8].ratio) == (None, None)
    assert 0 <= cell.forms[INT8].error < 1e-5
    assert found.table[1][0][4] == "-"


def test_a_run_that_was_stopped_goes_on(
    run: Callable[..., Latency], timed: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = side_by_side.compare

    def stopped(*given: Any) -> Any:
        if timed:
            raise KeyboardInterrupt
        return right(*given)

    with monkeypatch.context() as patched:
        patched.setattr(side_by_side, "compare", stopped)
        with pytest.raises(KeyboardInterrupt):
            run()
    again = run()
    assert len(timed) == 2  # the cell that was missing
    assert again.subjects[0].complete
    assert run().subjects == again.subjects  # there is nothing to do
    assert len(timed) == 2
    run("--anew", "--batches=1")
    run("--seed=1", "--batches=1")  # something else is measured
    assert len(timed) == 4


def test_a_cell_that_takes_long_has_fewer_rounds(run: Callable[..., Latency]) -> None:
    [cell] = run("--batches=1", "--rounds=9", "--limit=0").subjects[0].cells
    assert cell.rounds == side_by_side.FEWEST


def test_the_work_of_a_batch_counts_where_every_clip_is_filled_up() -> None:
    arguments = latency._parser().parse_args(["--batches=1,4,16"])
    linear = {1.0: 100, 10.0: 1000, 30.0: 3000}
    sizes = [(1.0, 1), (10.0, 1), (30.0, 1), (1.0, 4), (10.0, 4), (1.0, 16)]
    assert latency.sizes_of(arguments, linear) == sizes
    assert latency.sizes_of(arguments, {1.0: 1000, 10.0: 1000}) == [(1.0, 1), (10.0, 1), (1.0, 4), (10.0, 4)]


def test_memory_is_that_of_a_process_which_does_nothing_else(engine: Path) -> None:
    sizes = [(60.0, 1), (1.0, 1)]
    found = memory.peaks(["engine", str(engine), BASE], sizes, 1)
    if not found:
        pytest.skip("the system does not tell")
    assert set(found) == set(sizes)
    assert 0.02 < found[1.0, 1] < found[60.0, 1] < 2.0


def test_a_process_whose_memory_cannot_be_measured_says_why(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not an engine"):
        memory.peaks(["engine", str(tmp_path), BASE], [(1.0, 1)], 1)


@pytest.mark.slow
def test_memory_of_transformers() -> None:
    [peak] = memory.peaks(["transformers", str(CHECKPOINT)], [(1.0, 1)], 1).values()
    assert 0.1 < peak < 4.0


def measured(latency_record: Latency, ratio: float, share: float, cosine: float, name: str = "hubert-base") -> Latency:
    """A record of one cell with one exact form and one that is twice as fast as that."""

    def estimate(value: float) -> Estimate:
        return Estimate(value=value, low=value * 0.99, high=value * 1.01)

    time = Tail(median_ms=10.0, p95_ms=11.0, p99_ms=12.0)
    common = {"time": time, "share": estimate(share), "peak_gib": None}
    rest = Rest(kinds={"copies": 0.2}, weights=0.1)
    forms = {
        BASE: FormCell(ratio=estimate(ratio), error=1e-6, cosine=1.0, rest=rest, **common),
        INT8: FormCell(ratio=estimate(2 * ratio), error=0.1, cosine=cosine, **common),
    }
    cell = Cell(seconds=1, batch=1, rounds=5, operations=1, transformers=time, transformers_peak_gib=None, forms=forms)
    notes = (
        FormNote(form=BASE),
        FormNote(form=INT8, one_by_one=True),
        FormNote(form="openvino/bf16", reason="no bf16"),
    )
    subject = SubjectCells(
        name=name, parameters=10**6, key="", attention="sdpa", forms=notes, cells=(cell,), complete=True
    )
    return latency_record.model_copy(update={"subjects": (subject,)})


def test_what_is_promised(latency_record: Latency) -> None:
    assert [promise.kept for promise in measured(latency_record, 1.3, 0.95, 0.9995).promises] == [True, True, True]
    assert [promise.kept for promise in measured(latency_record, 0.9, 0.85, 0.9995).promises] == [False, False, False]
    [*_, reduced] = measured(latency_record, 1.3, 0.95, 0.99).promises
    assert (reduced.kept, reduced.found) == (False, "no such form")
    assert measured(latency_record, 1.0, 1.0, 1.0, name="mine").promises == ()


def test_what_is_said(latency_record: Latency) -> None:
    far = measured(latency_record, 0.97, 0.85, 0.99)
    assert f"hubert-base: {BASE} 0.970 (0.960 to 0.980), smallest cell 0.970 at 1 s x 1." in far.summary
    assert f"Clips of a batch run one after the other in {INT8}" in far.summary
    assert f"a cosine below 0.999: {INT8} of hubert-base" in far.summary
    assert "Not run here: openvino/bf16: no bf16." in far.summary
    assert [finding.kind for finding in far.findings] == ["loss", "limit"]
    assert far.tables[-1][1] == (
        ["model", "form", "clip", "batch", "of the rate", "copies", "weights"],
        [["hubert-base", BASE, "1 s", "1", "85%", "20.0%", "10.0%"]],
    )
    assert len(measured(latency_record, 0.97, 0.95, 0.99).tables) == 1


def test_the_engine_of_a_quick_run_is_that_of_the_other_benchmarks(results: Path, cache: Path) -> None:
    assert results.is_dir()
    folder = models.prepare("tiny", None, (), cache, pytest.fail).folder
    assert folder.is_relative_to(cache / "engines")


def test_rates_are_of_the_threads_that_were_asked_for(
    run: Callable[..., Latency], monkeypatch: pytest.MonkeyPatch
) -> None:
    right, asked = roofline.candidates, []

    def noted(precision: Any, threads: int, shape: Any) -> Any:
        asked.append(threads)
        return right(precision, threads, shape)

    monkeypatch.setattr(roofline, "candidates", noted)
    run("--threads=2", "--batches=1")
    assert set(asked) == {2}
