import ctypes.util
import shutil

import numpy as np
import pytest

from benchmarks.audio import spoken
from demo import speech
from demo.voices import TEST_VARIANTS, Voice

VOICE = Voice("en-us", TEST_VARIANTS[0], 150, 50, 2)

pytestmark = pytest.mark.skipif(ctypes.util.find_library("espeak-ng") is None, reason="espeak-ng is not installed")


def test_words_are_where_they_are_heard() -> None:
    audio, [first, second] = spoken.speak("please, now.", VOICE)
    assert (first.text, second.text) == ("please,", "now.")
    assert first.end is not None
    assert second.end is not None
    # A word begins with the closure of its p: silence, which is cut at the beginning of a clip.
    assert -0.05 < first.start < first.end < second.start < second.end <= len(audio) / speech.SAMPLE_RATE
    loud = np.abs(audio.astype(np.float32)) > 300
    pause = loud[round(first.end * speech.SAMPLE_RATE) + 800 : round(second.start * speech.SAMPLE_RATE)]
    assert len(pause) > 800
    assert not pause.any()


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="the command espeak-ng is not installed")
def test_it_is_the_speech_of_the_command() -> None:
    audio, _ = spoken.speak("please turn on all the lights.", VOICE)
    command = speech.speak("please turn on all the lights.", VOICE)
    # Each has a random part of its own, such as the noise of an s, and may be cut elsewhere.
    assert abs(len(audio) - len(command)) < 0.05 * speech.SAMPLE_RATE
    low, high = (np.abs(each[:1600].astype(np.float32)).mean() for each in (audio, command))
    assert low == pytest.approx(high, rel=0.2)


def test_words_that_run_together_have_one_beginning_and_no_end() -> None:
    _, words = spoken.speak("turn on the kitchen lights", VOICE)
    assert [word.text for word in words] == ["turn", "on", "kitchen", "lights"]
    assert [word.end is None for word in words] == [False, True, False, False]


def test_an_accent_is_a_language() -> None:
    _, words = spoken.speak("yes", Voice("en-gb", TEST_VARIANTS[4], 150, 50, 2))
    assert [word.text for word in words] == ["yes"]


def test_a_voice_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="no voice xx"):
        spoken.speak("yes", Voice("xx", "nobody", 150, 50, 2))
