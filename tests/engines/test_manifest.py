from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from engines.errors import EngineError, EngineInvalidError, EngineNotFoundError, EngineVersionError
from engines.manifest import MANIFEST_NAME, Manifest


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
    ],
)
def test_a_wrong_value_is_named(folder: Path, values: dict[str, Any], where: str) -> None:
    change(folder, **values)
    with pytest.raises(EngineInvalidError, match=where):
        Manifest.read(folder)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a/b", ".hidden", ""])
def test_no_file_name_leaves_the_folder(folder: Path, name: str) -> None:
    golden = json.loads((folder / MANIFEST_NAME).read_text())["golden"]
    change(folder, golden=golden | {"file": name})
    with pytest.raises(EngineError, match=r"golden\.file"):
        Manifest.read(folder)
