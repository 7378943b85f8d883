from __future__ import annotations

from pathlib import Path
from shutil import copytree

import pytest

from engines.engine import Engine
from engines.errors import EngineInvalidError, EngineNotFoundError, EngineTamperedError, RuntimeUnavailableError
from engines.repository import find_engines, load, state_of_files, unload

DEMO = Path(__file__).parents[2] / "demo" / "engines"


def place(*parts: str | Path) -> Path:
    folder = Path(*parts)
    folder.mkdir(parents=True)
    (folder / "engine.json").write_text("{}")
    return folder


def test_names_and_newest_versions(tmp_path: Path) -> None:
    plain = place(tmp_path, "b-plain")
    place(tmp_path, "a-versions", "2")
    newest = place(tmp_path, "a-versions", "10")
    place(tmp_path, "a-versions", "draft")
    place(tmp_path, ".partial-x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    assert find_engines(tmp_path) == {"a-versions": newest, "b-plain": plain}


def test_no_folder_says_which_flag_names_one(tmp_path: Path) -> None:
    with pytest.raises(EngineNotFoundError, match="--models"):
        find_engines(tmp_path / "nowhere")


def test_a_folder_that_cannot_be_read_does_not_hide_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, locked = place(tmp_path, "whole"), tmp_path / "locked"
    locked.mkdir()
    original = Path.is_file

    def is_file(path: Path) -> bool:
        if path.parent == locked:
            raise PermissionError(13, "Permission denied")
        return original(path)

    monkeypatch.setattr(Path, "is_file", is_file)
    assert find_engines(tmp_path) == {"locked": locked, "whole": whole}
    with pytest.raises((EngineNotFoundError, EngineInvalidError)):
        Engine(locked)


@pytest.mark.parametrize("name", ["hubert-intent-english", "hubert-translate-english-german"])
def test_loading_and_unloading(name: str) -> None:
    engine = Engine(DEMO / name)
    size = load(engine)
    assert 2_000_000 < size < 10_000_000
    assert set(engine.checks) == ({"fp32.start", "fp32.step"} if engine.manifest.generation else {"fp32"})
    unload(engine)
    with pytest.raises(RuntimeUnavailableError, match="unloaded"):
        engine.load(engine.full_graph)


def test_what_tells_that_a_file_was_touched(tmp_path: Path) -> None:
    engine = Engine(Path(copytree(DEMO / "hubert-translate-english-german", tmp_path / "engine")))
    before = state_of_files(engine)
    assert {"engine.json", "golden.safetensors", "tokenizer.json", "fp32.weights", "fp32.step.onnx"} <= before.keys()
    assert state_of_files(engine) == before
    golden = engine.folder / "golden.safetensors"
    data = golden.read_bytes()
    golden.unlink()
    assert state_of_files(engine) == before | {"golden.safetensors": None}
    golden.write_bytes(data)
    assert state_of_files(engine) != before


def test_of_what_fails_nothing_is_left(tmp_path: Path) -> None:
    engine = Engine(Path(copytree(DEMO / "hubert-translate-english-german", tmp_path / "engine")))
    with (engine.folder / "fp32.step.weights").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(EngineTamperedError):
        load(engine)
    assert not engine._sessions
