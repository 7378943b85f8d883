import ctypes.util
from pathlib import Path

import numpy as np
import pytest

from benchmarks import record, report
from benchmarks.audio import timestamps
from benchmarks.audio.spoken import Word
from benchmarks.audio.timestamps import differences, matched
from benchmarks.records.timestamps import Timestamps
from server.decoding.transcript import Piece


def test_words_that_were_heard_right_are_compared() -> None:
    words = [Word("turn,", 0, 1), Word("on", 1, None), Word("lights!", 2, 3)]
    pieces = [Piece(text, start, start + 1, None) for start, text in enumerate(("turn", "off", "the", "lights"))]
    assert [(word.text, piece.start) for word, piece in matched(words, pieces)] == [("turn,", 0), ("lights!", 3)]
    assert list(matched(words, [])) == []


def test_differences_in_milliseconds() -> None:
    found = differences([-0.01, -0.02, 0.03])
    assert found.words == 3
    assert [found.median, found.p90, found.bias] == pytest.approx([20, 28, -10])
    assert np.isnan(differences([]).median)


@pytest.mark.skipif(ctypes.util.find_library("espeak-ng") is None, reason="espeak-ng is not installed")
def test_the_times_of_words_are_within_80_ms(tmp_path: Path) -> None:
    output = tmp_path / "timestamps.json"
    assert timestamps.main(["--clips", "12", "--output", str(output)]) == 0
    found = record.read(output)
    assert isinstance(found, Timestamps)
    assert [cell.decoding for cell in found.cells] == ["greedy", "16 beams"]
    for cell in found.cells:
        assert cell.starts.words > 40
        assert cell.starts.median < 80
        assert cell.ends.median < 80
        assert cell.error_rate < 0.3
    assert "| 16 beams |" in report.section(found)
