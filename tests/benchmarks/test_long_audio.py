from pathlib import Path

import numpy as np
import pytest

from benchmarks import record
from benchmarks.audio import recording, window_effect
from benchmarks.audio.long_audio import main
from benchmarks.audio.sentences import joined, sentences, word_errors, write_recording
from benchmarks.audio.window_effect import relative
from benchmarks.records.long_audio import LongRecording, WindowEffect

ENGINE = "demo/engines/hubert-ctc-english"


def test_a_recording_of_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "WAYS", recording.WAYS[:2])
    monkeypatch.setattr(recording, "SHORT_ROUNDS", 1)
    monkeypatch.setattr(recording, "PIECES", 1)
    output = tmp_path / "recording.json"
    assert main(["recording", ENGINE, "--minutes", "1.5", "--output", str(output)]) == 0
    found = record.read(output)
    assert isinstance(found, LongRecording)
    assert [cell.what for cell in found.cells] == ["text", "one vector (mean)"]
    assert 1 < found.minutes <= 1.5
    assert 0 <= found.word_errors < 1
    assert found.sentences_word_errors < 0.1
    assert all(0 < cell.received_mib < 0.1 for cell in found.cells)
    assert len(found.table[0]) == len(found.table[1][0])
    assert "promised: 150" in found.summary


def test_windows_against_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window_effect, "CONTEXTS", (0.0, 2.6))
    output = tmp_path / "windows.json"
    assert main(["windows", ENGINE, "demo/engines/usm-spoken-words", "--clips", "1", "--output", str(output)]) == 0
    found = record.read(output)
    assert isinstance(found, WindowEffect)
    assert [(cell.model, cell.context_seconds) for cell in found.cells[:2]] == [
        ("hubert-ctc-english", 0),
        ("hubert-ctc-english", 2.6),
    ]
    assert [cell.word_errors is None for cell in found.cells] == [False, False, True, True]
    without, with_context = found.cells[2:]
    assert with_context.near < without.near
    assert len(found.table[0]) == len(found.table[1][0])
    assert "Word errors of the whole" in found.summary


def test_word_errors() -> None:
    assert word_errors([("one two three", "ONE too three"), ("four", "four five")]) == 0.5


def test_the_error_of_a_frame() -> None:
    frames, whole = (np.array([[3, 4], *rest], np.float32) for rest in ([[0, 2], [0, 0]], [[0, 1], [0, 0]]))
    np.testing.assert_array_equal(relative(frames, whole), [0, 1, 0])


def test_recordings_are_made_of_sentences(tmp_path: Path) -> None:
    said = sentences()
    one = joined(said, 20, np.random.default_rng(0))
    assert 12 < len(one.clip) / 16_000 <= 20
    text, seconds = write_recording(tmp_path / "a.flac", said, 20, np.random.default_rng(0))
    assert (text, seconds) == (one.text, len(one.clip) / 16_000)
