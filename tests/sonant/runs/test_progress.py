from __future__ import annotations

import math
from pathlib import Path, PurePath

import pytest

from sonant.runs import progress
from sonant.runs.errors import FileError
from sonant.runs.inputs import Input
from sonant.runs.progress import Bar, Plain, Totals, display, failed


def test_a_log_has_a_line_now_and_then(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    totals = Totals(10, before=2, done=3, failed=1, audio_seconds=60.0, run_seconds=2.0)
    with display(10, quiet=False) as shown:
        assert isinstance(shown, Plain)
        shown.show(totals, 3725.0)
        assert capsys.readouterr().err == ""
        monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
        shown.show(totals, 3725.0)
        shown.show(totals, math.nan)
    assert capsys.readouterr().err.splitlines() == [
        "sonant: 6 of 10 files, 30.0 s/s 1:02:05 left",
        "sonant: 6 of 10 files, 30.0 s/s ",
    ]
    with display(10, quiet=True) as quiet:
        quiet.show(totals, 1.0)
        quiet.say("what went wrong")
    assert capsys.readouterr().err == "what went wrong\n"


def test_a_terminal_has_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with Bar(10) as bar:
        bar.show(Totals(10, done=3, audio_seconds=60.0, run_seconds=2.0), 5.0)
        bar.say("[red] is no markup")
    assert "[red] is no markup" in capsys.readouterr().err


def test_the_last_line() -> None:
    totals = Totals(5, before=1, done=3, failed=1, audio_seconds=60.0, run_seconds=2.0, start_seconds=1.5)
    expected = "3 of 5 files done, 1 were done before, 1 failed; 60.0 s of audio in 2.000 s: 30 s/s; started in 1.500 s"
    assert str(totals) == expected
    assert str(Totals(1, before=1)).startswith("0 of 1 files done, 1 were done before; 0.0 s of audio")


def test_a_name_neither_moves_the_cursor_nor_ends_the_line() -> None:
    each = Input(Path("a\x1b]0;b\x07\nsonant: 5 of 5 files done.wav"), PurePath("a"))
    said = failed(each, FileError("audio_empty", "the audio is empty"))
    assert said.isprintable()
    assert r"a\x1b]0;b\x07\nsonant: 5" in said
