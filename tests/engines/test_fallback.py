"""Forms that turn out not to work: another stands in, and it is said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.engine import Engine
from engines.errors import EngineTamperedError, OutOfMemoryError, RuntimeUnavailableError
from engines.manifest import MANIFEST_NAME
from engines.runtimes import RuntimeOptions
from tests.support import noise

OUTPUTS = ["embeddings", "logits"]


@pytest.fixture
def folder(models: Path, tmp_path: Path) -> Path:
    """An engine with a second form, whose only graph computes less: a copy of the full one under another name."""
    folder = Path(shutil.copytree(models / "tiny-ctc", tmp_path / "engine"))
    data = json.loads((folder / MANIFEST_NAME).read_text())
    full = data["graphs"][0]
    shutil.copy(folder / full["file"], folder / "int8.onnx")
    hashes = {"int8.onnx" if file == full["file"] else file: sha256 for file, sha256 in full["sha256"].items()}
    other: dict[str, Any] = {
        "name": "int8",
        "precision": "int8",
        "file": "int8.onnx",
        "sha256": hashes,
        "outputs": OUTPUTS,
    }
    other["errors"] = dict.fromkeys(OUTPUTS, 1e-2)
    write(folder, data | {"graphs": [*data["graphs"], full | other]})
    return folder


def write(folder: Path, data: dict[str, Any]) -> None:
    (folder / MANIFEST_NAME).write_text(json.dumps(data))


def break_file(folder: Path) -> None:
    with (folder / "int8.onnx").open("ab") as file:
        file.write(b"\0")


def opened(folder: Path) -> Engine:
    return Engine(folder, options=RuntimeOptions(max_error=1.0))


def test_a_form_is_used_for_what_it_computes_and_the_exact_one_for_the_rest(folder: Path) -> None:
    engine = opened(folder)
    assert engine.form.name == "onnxruntime/int8"
    assert engine.graph_for(OUTPUTS).name == engine.full_graph.name == "int8"
    assert engine.graph_for([*OUTPUTS, "pooled"]).name == "fp32"
    assert [graph.name for graph in engine.load_first()] == ["int8"]


def test_another_form_can_be_put_in_use(folder: Path) -> None:
    engine = opened(folder)
    engine.use("onnxruntime/fp32")
    assert engine.form.name == "onnxruntime/fp32"
    engine.use("tensorrt/fp16")  # which there is not
    assert engine.form.name == "onnxruntime/fp32"


def test_a_form_that_does_not_load_is_given_up(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    break_file(folder)
    engine = opened(folder)
    assert [graph.name for graph in engine.load_first()] == ["fp32"]
    assert (engine.form.name, engine.fallbacks) == ("onnxruntime/fp32", 1)
    assert "onnxruntime/int8 is not used any more, onnxruntime/fp32 is" in caplog.text
    engine.use("onnxruntime/int8")
    assert engine.form.name == "onnxruntime/fp32"


def test_a_request_that_needs_a_form_that_does_not_load_is_answered(folder: Path) -> None:
    exact = Engine(folder).run([noise(4000)], OUTPUTS)
    engine = opened(folder)
    break_file(folder)
    rows = engine.run([noise(4000)], OUTPUTS)
    assert engine.fallbacks == 1
    assert all(np.array_equal(rows[0][name], exact[0][name]) for name in OUTPUTS)


def test_the_exact_form_is_never_given_up(folder: Path) -> None:
    with (folder / "fp32.onnx").open("ab") as file:
        file.write(b"\0")
    engine = Engine(folder)
    with pytest.raises(EngineTamperedError):
        engine.load_first()
    assert (engine.form.name, engine.fallbacks) == ("onnxruntime/fp32", 0)


def test_memory_that_is_short_for_a_moment_costs_no_form(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = opened(folder)

    def short(graph: object) -> None:
        raise OutOfMemoryError("not enough memory")

    monkeypatch.setattr(engine, "_load", short)
    with pytest.raises(OutOfMemoryError):
        engine.run([noise(4000)], OUTPUTS)
    assert engine.fallbacks == 0


def test_a_batch_that_a_form_does_not_take_runs_in_the_exact_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = opened(folder)
    session = engine.load(engine.full_graph)

    def refuse(*arguments: object) -> None:
        raise RuntimeUnavailableError("no profile takes this batch")

    monkeypatch.setattr(session, "run", refuse)
    rows = engine.run([noise(4000)], OUTPUTS)
    assert np.array_equal(rows[0]["logits"], Engine(folder).run([noise(4000)], OUTPUTS)[0]["logits"])
    assert (engine.form.name, engine.fallbacks) == ("onnxruntime/int8", 0)


def test_a_form_that_reproduces_nothing_any_more_is_given_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = opened(folder)
    session = engine.load(engine.full_graph)
    assert engine.recheck()

    def fail(*arguments: object) -> None:
        raise RuntimeError("the device is lost")

    monkeypatch.setattr(session, "run", fail)
    assert engine.recheck()  # since another stands in
    assert (engine.form.name, engine.fallbacks) == ("onnxruntime/fp32", 1)
    monkeypatch.setattr(engine.load(engine.full_graph), "run", fail)
    assert not engine.recheck()


def test_rows_are_limited_by_the_form_in_use(folder: Path) -> None:
    data = json.loads((folder / MANIFEST_NAME).read_text())
    data["graphs"][-1]["max_rows"] = 1
    write(folder, data)
    engine = opened(folder)
    assert engine.max_rows(4000) == 1
    engine.use("onnxruntime/fp32")
    assert engine.max_rows(4000) > 1
