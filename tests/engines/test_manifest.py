from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engines.errors import EngineError, EngineInvalidError, EngineNotFoundError, EngineVersionError
from engines.manifest import MANIFEST_NAME, Golden, Manifest, Output


@pytest.fixture
def folder(models: Path, tmp_path: Path) -> Path:
    shutil.copy(models / "tiny-ctc" / MANIFEST_NAME, tmp_path)
    return tmp_path


def change(folder: Path, **values: Any) -> None:
    path = folder / MANIFEST_NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_written_and_read_back(folder: Path, tmp_path: Path) -> None:
    manifest = Manifest.read(folder)
    manifest.write(tmp_path)
    assert Manifest.read(tmp_path) == manifest


def test_no_manifest_is_file_not_found(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"is not an engine.*sonant export"):
        Manifest.read(tmp_path)
    with pytest.raises(EngineNotFoundError):
        Manifest.read(tmp_path / "nowhere")


@pytest.mark.parametrize("text", ["", "{", '{"schema_version": 1', "[1]", "null", '"x"', "\0\1"])
def test_a_half_written_manifest_names_the_file(folder: Path, text: str) -> None:
    (folder / MANIFEST_NAME).write_text(text)
    with pytest.raises(EngineInvalidError, match=r"engine\.json.*export the engine again"):
        Manifest.read(folder)


def test_a_newer_schema_asks_for_an_upgrade(folder: Path) -> None:
    change(folder, schema_version=2, something_new=True)
    with pytest.raises(EngineVersionError, match=r"schema 2.*upgrade sonant"):
        Manifest.read(folder)


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ({"sample_rate": 0}, "sample_rate"),
        ({"unknown": 1}, "unknown"),
        ({"tasks": ["sing"]}, "tasks.0"),
        ({"schema_version": 0}, "schema_version"),
        ({"outputs": []}, "at least one output"),
        ({"graphs": []}, "at least one output and one graph"),
        ({"min_samples": 999_999_999}, "min_samples"),
        ({"ctc": None}, "transcribe needs ctc"),
        ({"tasks": ["classify"]}, "classify needs classification"),
    ],
)
def test_a_wrong_value_is_named(folder: Path, values: dict[str, Any], where: str) -> None:
    change(folder, **values)
    with pytest.raises(EngineInvalidError, match=where):
        Manifest.read(folder)


def twice(values: list[Any]) -> None:
    values.append(values[0])


CONTRADICTIONS: dict[str, Callable[[dict[str, Any]], object]] = {
    "two outputs are called embeddings": lambda data: twice(data["outputs"]),
    "two graphs are called fp32": lambda data: twice(data["graphs"]),
    "graph fp32 names embeddings twice": lambda data: twice(data["graphs"][0]["outputs"]),
    "graph fp32 has outputs that the engine has not: extra": lambda data: data["graphs"][0]["outputs"].append("extra"),
    "golden has outputs that the engine has not: extra": lambda data: data["golden"]["outputs"].append("extra"),
    "golden names embeddings twice": lambda data: twice(data["golden"]["outputs"]),
    "graph fp32.layers1 has no output that the golden": lambda data: data["graphs"][1].update(outputs=["x"]),
    "graph fp32: sha256 lacks fp32.onnx": lambda data: data["graphs"][0]["sha256"].pop("fp32.onnx"),
    "embeddings: a time axis goes with": lambda data: data["outputs"][0].update(lengths=None),
    "pooled: samples_per_frame goes with": lambda data: data["outputs"][1].update(samples_per_frame=320),
    "pooled: a time axis": lambda data: data["outputs"][1].update(lengths="frames", samples_per_frame=320),
    "ctc: blank": lambda data: data["ctc"].update(blank=32),
    "ctc: blank or skipped": lambda data: data["ctc"].update(skipped=[32]),
    r"graphs\.0\.errors\.logits": lambda data: data["graphs"][0]["errors"].update(logits=float("nan")),
}


@pytest.mark.parametrize("problem", CONTRADICTIONS)
def test_what_contradicts_itself_is_said(folder: Path, problem: str) -> None:
    path = folder / MANIFEST_NAME
    data = json.loads(path.read_text())
    if problem.endswith("that the golden"):
        data["outputs"].append({"name": "x", "shape": ["batch", 1]})
    CONTRADICTIONS[problem](data)
    path.write_text(json.dumps(data))
    with pytest.raises(EngineInvalidError, match=problem):
        Manifest.read(folder)


def test_rows_that_are_no_frames_may_be_cut() -> None:
    golden = Golden(sha256="0" * 64, clips=1, outputs=(), rows=7)
    frames = Output(name="a", shape=("batch", "frames", 4), lengths="frames", samples_per_frame=320)
    tokens = Output(name="b", shape=("batch", 9, 4))
    vector = Output(name="c", shape=("batch", 4))
    assert [golden.cut(output) for output in (frames, tokens, vector)] == [slice(None), slice(7), slice(None)]


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a/b", ".hidden", ""])
def test_no_file_name_leaves_the_folder(folder: Path, name: str) -> None:
    golden = json.loads((folder / MANIFEST_NAME).read_text())["golden"]
    change(folder, golden=golden | {"file": name})
    with pytest.raises(EngineError, match=r"golden\.file"):
        Manifest.read(folder)
