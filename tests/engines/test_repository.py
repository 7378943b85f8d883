from __future__ import annotations

from pathlib import Path

import pytest

from engines.errors import EngineNotFoundError
from engines.repository import find_engines


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
