from __future__ import annotations

import base64
import json
import os
from pathlib import Path, PurePath
from typing import Any, BinaryIO

import numpy as np
import pytest

from sonant.runs.errors import FileError, UsageError
from sonant.runs.inputs import Input
from sonant.runs.outcomes import Array, Outcome
from sonant.runs.outputs import Files, Lines, replacing, resumed, shown

A, B = (Input(Path(name), PurePath(name)) for name in ("a.wav", "b.wav"))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def write(path: Path, *done: Input) -> None:
    with path.open("ab") as file:
        output = Lines(file, Outcome.entry, resumed(path))
        for each in done:
            output.write(each, Outcome(1.0, {"text": "für"}))


def test_lines_are_there_at_once_and_as_text(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    with path.open("ab") as file:
        output = Lines(file, Outcome.entry)
        output.write(A, Outcome(1.0, {"text": "für"}))
        assert path.read_text() == '{"path":"a.wav","text":"für"}\n'
        output.fail(B, FileError("audio_empty", "nothing in it"))
        assert lines(path)[1] == {"path": "b.wav", "error": {"code": "audio_empty", "message": "nothing in it"}}


@pytest.mark.parametrize("rest", [b'{"path": "b.w', b'{"path":"b.wav","text":"x"}', b'{"path":"b.wav","error":{}}\n'])
def test_what_is_not_whole_or_failed_is_done_again(tmp_path: Path, rest: bytes) -> None:
    path = tmp_path / "lines"
    write(path, A)
    with path.open("ab") as file:
        file.write(rest)
    assert resumed(path) == {"a.wav"}
    write(path, B)
    assert [line["path"] for line in lines(path)] == ["a.wav", "b.wav"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_of_something_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    for text in ("dear diary\n", "[1]\n", '{"text": "x"}\n'):
        path.write_text(text)
        with pytest.raises(UsageError, match="line 1: not of this command"):
            resumed(path)
        assert path.read_text() == text


def test_names_that_are_not_utf8_can_be_told(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.wav")
    assert shown(Path(name)) == "caf\\xe9.wav"
    path = tmp_path / "lines"
    write(path, Input(Path(name), PurePath(name)))
    assert resumed(path) == {"caf\\xe9.wav"}


def test_files_appear_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "sub/a.txt"

    def fail(file: BinaryIO, outcome: Outcome) -> None:
        file.write(b"half")
        assert not target.exists()
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        Files({A: target}, fail).write(A, Outcome(1.0))
    assert list(target.parent.iterdir()) == []

    output = Files({A: target}, lambda file, outcome: None)
    (target.parent / ".a.txt.partial").write_bytes(b"of a run that was killed")
    assert not output.is_done(A)
    output.write(A, Outcome(1.0))
    assert output.is_done(A)
    assert not Files({A: target}, fail, anew=True).is_done(A)
    assert [path.name for path in target.parent.iterdir()] == ["a.txt"]


def test_what_failed_in_the_last_run_stands_in_a_file(tmp_path: Path) -> None:
    errors = tmp_path / "errors.jsonl"
    for message in ("first", "second"):
        output = Files({}, lambda file, outcome: None, errors)
        assert not errors.exists()
        output.fail(A, FileError("audio_empty", message))
        assert lines(errors) == [{"path": "a.wav", "error": {"code": "audio_empty", "message": message}}]


def test_a_replaced_file_is_the_old_one_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")
    with replacing(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


def test_arrays_stand_in_json_as_in_the_answers_of_the_server() -> None:
    values = np.array([[0.1, 2.0]], np.float32)
    one = Outcome(1.5, {"duration": 1.5, "windows": 1}, arrays=[Array(values, None, 50.0)])
    assert one.entry("base64") == {
        "embedding": base64.b64encode(values.tobytes()).decode(),
        "shape": (1, 2),
        "frame_rate": 50.0,
        "duration": 1.5,
        "windows": 1,
    }
    frames = Outcome(1.5, arrays=[Array(np.zeros((3, 1), np.float32), None, 50.0)])
    assert frames.entry(times=True)["times"].tolist() == [0.0, 0.02, 0.04]
    two = Outcome(1.5, {"duration": 1.5}, arrays=[Array(values, 3, 50.0), Array(values[0], 6, None)])
    assert [each["layer"] for each in two.entry()["data"]] == [3, 6]
    assert two.entry()["duration"] == 1.5
