from __future__ import annotations

import os
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


def test_a_name_that_cannot_be_printed_hides_its_folder_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    good = {name: place(tmp_path, name) for name in ("a.b_c-1", "two words", "größe", "日本語")}
    bad = [b"caf\xe9", b"line\nbreak", b"\x1b[31mred", b"\xe2\x80\xa8", b"\xe2\x80\xaetxt", b"\x7f"]
    for name in bad:
        place(tmp_path, os.fsdecode(name))
    assert find_engines(tmp_path) == good
    assert len(caplog.records) == len(bad)
    assert "caf\\udce9" in caplog.text
    assert all(record.getMessage().isprintable() for record in caplog.records)


@pytest.mark.parametrize("file", ["golden.safetensors", "fp32.weights", "fp32.onnx"])
def test_a_file_that_is_a_pipe_is_not_waited_for(tmp_path: Path, file: str) -> None:
    engine = Engine(Path(copytree(DEMO / "hubert-intent-english", tmp_path / "engine")))
    (engine.folder / file).unlink()
    os.mkfifo(engine.folder / file)
    with pytest.raises(EngineInvalidError, match="not a regular file"):
        load(engine)


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
