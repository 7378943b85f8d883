from __future__ import annotations

import os
from pathlib import Path, PurePath

import pytest

from sonant.runs.errors import UsageError
from sonant.runs.inputs import Input, collect, stems

FILES = ("a.wav", "b.FLAC", "c.txt", ".hidden.wav", "sub/d.mp3", "sub/deep/e.ogg", ".git/f.wav")


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in FILES:
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "tree"


def relative(inputs: list[Input]) -> list[str]:
    return [str(each.relative) for each in inputs]


def test_a_folder_is_all_audio_below_it(tree: Path) -> None:
    found = collect(["tree"])
    assert [str(each.path) for each in found] == ["tree/a.wav", "tree/b.FLAC", "tree/sub/d.mp3", "tree/sub/deep/e.ogg"]
    assert relative(found) == ["a.wav", "b.FLAC", "sub/d.mp3", "sub/deep/e.ogg"]


def test_what_is_no_file_is_passed_over_and_a_link_to_nothing_is_not(tree: Path) -> None:
    """That one is reported when it is its turn."""
    os.mkfifo(tree / "sub/pipe.wav")
    (tree / "sub/link.wav").symlink_to("nowhere")
    assert relative(collect(["tree/sub"])) == ["d.mp3", "link.wav", "deep/e.ogg"]


def test_each_file_is_there_once_whatever_names_it(tree: Path) -> None:
    found = collect(["tree/sub/../a.wav", "tree", str(tree), "tree/*.wav"])
    assert len(found) == 4
    assert found[0].relative == PurePath("a.wav")


def test_a_file_that_is_named_may_have_any_suffix(tree: Path) -> None:
    assert relative(collect(["tree/c.txt"])) == ["c.txt"]
    assert relative(collect(["tree/*.txt", "tree/sub"])) == ["c.txt", "sub/d.mp3", "sub/deep/e.ogg"]


def test_patterns_go_down_and_match_folders(tree: Path) -> None:
    assert relative(collect(["tree/**/*.mp3", "tree/**/*.ogg"])) == ["d.mp3", "deep/e.ogg"]
    assert relative(collect(["tree/s*"])) == ["d.mp3", "deep/e.ogg"]
    assert len(collect(["tree/**"])) == 5  # what it matches itself may have any suffix


def test_a_name_with_brackets_is_a_name(tree: Path) -> None:
    (tree / "take[1].wav").touch()
    assert relative(collect(["tree/take[1].wav"])) == ["take[1].wav"]


def test_folders_keep_their_names_where_there_are_several(tree: Path) -> None:
    (tree / "sub/deep/d.mp3").touch()
    assert relative(collect(["tree/sub/deep", "tree/a.wav"])) == ["sub/deep/d.mp3", "sub/deep/e.ogg", "a.wav"]


def test_linked_folders_are_not_entered_and_linked_files_are_taken(tree: Path) -> None:
    (tree / "sub/loop").symlink_to(tree)
    (tree / "sub/link.wav").symlink_to(tree / "a.wav")
    assert relative(collect(["tree/sub"])) == ["d.mp3", "link.wav", "deep/e.ogg"]


def test_standard_input(tree: Path) -> None:
    [one] = collect(["-"])
    assert one.is_standard_input
    assert [each.is_standard_input for each in collect(["tree/a.wav", "-"])] == [False, True]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("nowhere", "there is no file or folder nowhere"),
        ("tree/*.opus", "nothing matches"),
        ("tree/.git/empty", "there is no audio in tree/.git/empty: looked for .aif"),
        ("/dev/null", "neither a file nor a folder"),
    ],
)
def test_what_names_nothing_is_said(tree: Path, argument: str, message: str) -> None:
    (tree / ".git/empty").mkdir()
    with pytest.raises(UsageError, match=message):
        collect([argument])


def test_outputs_keep_a_suffix_where_they_would_clash() -> None:
    def named(*names: str) -> list[str]:
        return [str(stem) for stem in stems([Input(Path(name), PurePath(name)) for name in names]).values()]

    assert named("a.wav", "b/a.wav", "c.d.flac") == ["a", "b/a", "c.d"]
    assert named("a.wav", "a.flac", "b.wav") == ["a.wav", "a.flac", "b"]
    assert named("a.wav", "a.flac", "a.wav.mp3") == ["a.wav", "a.flac", "a.wav.mp3"]
