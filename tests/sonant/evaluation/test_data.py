from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sonant.evaluation.data import Entry, read
from sonant.runs.errors import UsageError


def write(path: Path, *entries: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(entry)}\n" for entry in entries))
    return path


def test_a_file_with_paths_from_where_it_lies(tmp_path: Path) -> None:
    entries = {"audio": "a.wav", "text": "one", "duration": 2.5}, {"audio": "deep/b.wav", "text": ""}
    found = read(write(tmp_path / "set" / "clips.jsonl", *entries))
    assert found.name == "clips"
    assert [clip.path for clip in found.clips] == [tmp_path / "set/a.wav", tmp_path / "set/deep/b.wav"]
    assert found.entries == [Entry(audio="a.wav", text="one"), Entry(audio="deep/b.wav", text="")]
    assert read(tmp_path / "set").name == "set"  # a folder with one such file
    assert read(tmp_path / "set").clips == found.clips


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has no clips"),
        ("{", "line 1: Invalid JSON"),
        ('\n{"text": "one"}', "line 2: audio: Field required"),
        ('{"audio": "a.wav", "label": 3}', "line 1: label: Input should be a valid string"),
        ('{"audio": "a.wav"}\n{"audio": "a.wav"}', "line 2: a.wav stands there twice"),
        (b"\xff", "cannot be read"),
    ],
)
def test_what_is_no_such_file_is_named(content: str | bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "clips.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError, match=message):
        read(path)


def test_a_folder_has_one_and_a_file_is_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"gone\.jsonl cannot be read: No such file"):
        read(tmp_path / "gone.jsonl")
    with pytest.raises(UsageError, match="has 0 files that end in"):
        read(tmp_path)
    for name in "ab":
        write(tmp_path / f"{name}.jsonl", {"audio": "a.wav"})
    with pytest.raises(UsageError, match="has 2 files that end in"):
        read(tmp_path)
