from __future__ import annotations

from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pytest

from sonant.runs.destinations import Form, Wish, opened, place
from sonant.runs.errors import FileError, RunError, UsageError
from sonant.runs.inputs import Input
from sonant.runs.outcomes import Array, Outcome

INPUTS = [Input(Path(f"in/{name}"), PurePath(name)) for name in ("a.wav", "sub/b.wav")]
JSON, TEXT, ARRAYS = Form.of_json(Outcome.entry), Form.of_text(".srt"), Form.of_arrays("npz", Outcome.entry)
DONE = Outcome(1.0, {"text": "x"}, "x\n", [Array(np.ones(3, np.float32), None, None)])


def wish(output: Path | str | None = None, **given: Any) -> Wish:
    known = {"beside": False, "anew": False, "is_single": False} | given
    return Wish(None if output is None else Path(output), **known)


@pytest.mark.parametrize(
    ("output", "form", "is_single", "expected"),
    [
        (None, JSON, False, "standard output"),
        ("out", JSON, False, "folder"),
        ("out.d", TEXT, False, "folder"),
        ("out.jsonl", JSON, False, "lines"),
        ("out.jsonl", ARRAYS, False, "lines"),
        ("out.srt", TEXT, True, "file"),
        ("out.json", JSON, True, "file"),
        ("out.npz", ARRAYS, True, "file"),
        ("out.npz", ARRAYS, False, "archive"),
    ],
)
def test_what_output_means(output: str | None, form: Form, is_single: bool, expected: str) -> None:
    assert place(wish(output, is_single=is_single), form, INPUTS) == expected


@pytest.mark.parametrize(
    ("asked", "form", "message"),
    [
        (wish("out", beside=True), JSON, "without --output"),
        (wish(), TEXT, "need a folder"),
        (wish("out.jsonl"), TEXT, "takes JSON"),
        (wish("out.srt"), TEXT, "is one file"),
        (wish("out.txt"), JSON, "which end with .json"),
        (wish("out.safetensors"), ARRAYS, "which end with .npz"),
        (wish("/dev/null"), JSON, "is a file"),
    ],
)
def test_what_does_not_fit_is_said(asked: Wish, form: Form, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        place(asked, form, INPUTS)


@pytest.mark.parametrize(("name", "form"), [("out", JSON), ("out.jsonl", JSON), ("out.npz", ARRAYS), ("out", TEXT)])
def test_a_run_goes_on_only_as_it_was_begun(tmp_path: Path, name: str, form: Form) -> None:
    output = tmp_path / name
    with opened(wish(output), form, INPUTS, {"layer": 1}) as first:
        assert [first.is_done(each) for each in INPUTS] == [False, False]
        first.write(INPUTS[0], DONE)
        first.fail(INPUTS[1], FileError("audio_empty", "nothing"))
        with pytest.raises(UsageError, match="another run"), opened(wish(output), form, INPUTS, {"layer": 1}):
            pass
        first.finish()
    with opened(wish(output), form, INPUTS, {"layer": 1}) as second:
        assert [second.is_done(each) for each in INPUTS] == [True, False]
        second.write(INPUTS[1], DONE)
        second.finish()
    with (
        pytest.raises(UsageError, match=r"was made with .*layer.*1.*not with"),
        opened(wish(output), form, INPUTS, {"layer": 2}),
    ):
        pass
    with opened(wish(output), form, INPUTS, {"layer": 1}) as third:
        assert [third.is_done(each) for each in INPUTS] == [True, True]
        third.finish()
    with opened(wish(output, anew=True), form, INPUTS, {"layer": 2}) as fourth:
        assert [fourth.is_done(each) for each in INPUTS] == [False, False]


def test_a_run_of_which_nothing_comes_leaves_no_file(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    with pytest.raises(RunError), opened(wish(output), JSON, INPUTS, {"layer": 1}):
        raise RunError("there is no such engine")
    assert not output.exists()
    with opened(wish(output), JSON, INPUTS, {"layer": 2}) as second:
        second.write(INPUTS[0], DONE)
    assert output.exists()


@pytest.mark.parametrize(("name", "form"), [("out.jsonl", JSON), ("out.npz", ARRAYS), ("out", TEXT)])
def test_what_something_else_made_is_left_alone(tmp_path: Path, name: str, form: Form) -> None:
    output = tmp_path / name
    mine = output / "a.srt" if form is TEXT else output
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("dear diary")
    with pytest.raises(UsageError, match="was made by something else"), opened(wish(output), form, INPUTS, {}):
        pass
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [mine]
    assert mine.read_text() == "dear diary"


def test_folders_mirror_the_tree_and_files_stand_beside(tmp_path: Path) -> None:
    with opened(wish(tmp_path), TEXT, INPUTS, {}) as output:
        for each in INPUTS:
            output.write(each, DONE)
    assert (tmp_path / "sub/b.srt").read_text() == "x\n"
    inputs = [Input(tmp_path / each.relative, each.relative) for each in INPUTS]
    with opened(wish(beside=True), JSON, inputs, {}) as output:
        output.write(inputs[1], DONE)
    assert (tmp_path / "sub/b.json").exists()


def test_an_archive_that_lacks_a_clip_is_made_again_only_if_asked(tmp_path: Path) -> None:
    path = tmp_path / "out.npz"
    with opened(wish(path), ARRAYS, INPUTS[:1], {}) as output:
        output.write(INPUTS[0], DONE)
        output.finish()
    assert np.load(path)["a.wav"].tolist() == [1, 1, 1]
    with pytest.raises(UsageError, match=r"without sub/b\.wav"), opened(wish(path), ARRAYS, INPUTS, {}):
        pass
