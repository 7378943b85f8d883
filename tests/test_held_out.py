"""The clips by which the demo's engines are judged, drawn from speech that is not spoken."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from demo import held_out
from demo.speech import Clip, Speech
from demo.voices import TEST_VARIANTS, draw_voice
from engines.manifest import Manifest
from sonant.evaluation.data import read
from sonant.evaluation.questions import asked

ENGINES = Path(__file__).parent.parent / "demo" / "engines"
SAMPLES = 24_000
SENTENCES = (("turn on the kitchen lights", "lights"), ("my name is anna", "general"), ("stop the timer", "alarm"))
WORDS = (("yes", "word"), ("table", "other"), ("seven", "word"))


def speech(texts: tuple[tuple[str, str], ...]) -> Speech:
    generator = random.Random(0)
    clips = [
        Clip(text, intent, draw_voice(generator, TEST_VARIANTS, vary_speed=False), SAMPLES * place, SAMPLES)
        for place, (text, intent) in enumerate(texts)
    ]
    return Speech(np.arange(SAMPLES * len(texts)).astype(np.int16), clips)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command writes, at most four clips of each."""
    folder = tmp_path_factory.mktemp("held-out")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(held_out, "synthesise", lambda *_: speech(SENTENCES))
        patched.setattr(held_out, "synthesise_words", lambda *_: speech(WORDS))
        patched.setattr(held_out, "CLIPS", 4)
        patched.setattr(held_out, "CALIBRATION_CLIPS", 2)
        patched.setattr(sys, "argv", ["held_out", str(folder)])
        held_out.main()
    return folder


def lines(folder: Path, name: str) -> list[dict[str, str]]:
    found = [json.loads(line) for line in (folder / name / "clips.jsonl").read_text().splitlines()]
    return [{key: value for key, value in one.items() if key != "audio"} for one in found]


def test_each_checkpoint_is_asked_what_it_can_answer(folder: Path) -> None:
    assert sorted(held_out.DRAWS) == sorted(path.name for path in ENGINES.iterdir())
    for name in held_out.DRAWS:
        data = read(folder / name)
        assert data.name == name
        assert asked(data.entries, Manifest.read(ENGINES / name))
        for clip in data.clips:
            assert soundfile.info(clip.path).samplerate == 16_000
    assert lines(folder, "hubert-ctc-english") == [{"text": text} for text, _ in SENTENCES]
    assert lines(folder, "hubert-intent-english") == [{"label": "lights"}, {"label": "alarm"}]
    assert lines(folder, "hubert-translate-english-german")[1] == {"text": "Stoppe den Timer"}
    assert lines(folder, "sew-commands-english") == [{"label": "yes"}, {"label": "unknown"}, {"label": "unknown"}]
    assert [line["group"] for line in lines(folder, "usm-spoken-words")] == ["yes", "seven"]
    assert {line["speaker"] for line in lines(folder, "usm-spoken-words")} <= {*TEST_VARIANTS}
    assert [line["label"] for line in lines(folder, "ast-sound-events")] == ["tone", "chirp", "siren", "beeps"]


def test_what_is_calibrated_on_is_not_what_is_judged_by(folder: Path) -> None:
    for name in held_out.DRAWS:
        assert len(list((folder / "calibration" / name).glob("*.flac"))) == 2
    # The sounds are drawn here, those of calibration from other seeds.
    judged, calibrated = (
        soundfile.read(place / "000.flac")[0]
        for place in (
            folder / "ast-sound-events",
            folder / "calibration" / "ast-sound-events",
        )
    )
    assert judged.shape != calibrated.shape or not np.allclose(judged, calibrated)
    audio, _ = soundfile.read(folder / "hubert-ctc-english" / "001.flac", dtype="int16")
    np.testing.assert_array_equal(audio, np.arange(SAMPLES, 2 * SAMPLES).astype(np.int16))
