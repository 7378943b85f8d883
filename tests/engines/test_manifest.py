from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from engines.errors import EngineError, EngineInvalidError, EngineNotFoundError, EngineVersionError
from engines.manifest import MANIFEST_NAME, MAX_BYTES, MAX_INTEGER, Golden, Manifest, Output


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


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 100_000,
        "[" * 500 + "]" * 500,
        '{"schema_version": 1' + "0" * 5_000 + "}",
        " " * (MAX_BYTES + 1),
    ],
    ids=["lists", "objects", "closed", "digits", "size"],
)
def test_a_manifest_that_is_too_much_is_refused(folder: Path, text: str) -> None:
    (folder / MANIFEST_NAME).write_text(text)
    with pytest.raises(EngineInvalidError, match=r"engine\.json.*export the engine again"):
        Manifest.read(folder)


@pytest.mark.parametrize("number", ["1" + "0" * 400, "-1" + "0" * 400, "1e400", "NaN", str(MAX_INTEGER + 1)])
@pytest.mark.parametrize("field", ["sample_rate", "min_samples", "max_samples", "parameters"])
def test_a_number_beyond_all_measure_is_refused(folder: Path, number: str, field: str) -> None:
    path = folder / MANIFEST_NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: "?"}).replace('"?"', number))
    with pytest.raises(EngineInvalidError, match=r"engine\.json.*export the engine again"):
        Manifest.read(folder)


def test_a_manifest_that_is_a_pipe_is_not_waited_for(folder: Path) -> None:
    (folder / MANIFEST_NAME).unlink()
    os.mkfifo(folder / MANIFEST_NAME)
    with pytest.raises(EngineInvalidError, match="not a regular file"):
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
        ({"ctc": None}, "transcribe needs either ctc or generation"),
        ({"tasks": ["classify"]}, "classify needs classification"),
    ],
)
def test_a_wrong_value_is_named(folder: Path, values: dict[str, Any], where: str) -> None:
    change(folder, **values)
    with pytest.raises(EngineInvalidError, match=where):
        Manifest.read(folder)


@pytest.mark.parametrize("error", [float("nan"), float("inf"), -1])
def test_an_error_is_finite(folder: Path, error: float) -> None:
    graphs = json.loads((folder / MANIFEST_NAME).read_text())["graphs"]
    graphs[0]["errors"]["logits"] = error
    change(folder, graphs=graphs)
    with pytest.raises(EngineInvalidError, match=r"graphs\.0\.errors\.logits"):
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
