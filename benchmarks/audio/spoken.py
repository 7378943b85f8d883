"""espeak-ng's own word events: which word of a text it speaks when.

Through the library, since the command tells nothing of it: it speaks the same samples. Sources: speak_lib.h of
espeak-ng 1.51 for the events, and its src/espeak-ng.c for what the options of the command set.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from demo.speech import SAMPLE_RATE, prepared
from demo.voices import Voice

LIBRARY = "libespeak-ng.so.1"
RETRIEVE, PHONEME_EVENTS = 1, 1  # the audio is wanted, and no device; the phonemes are events too
RATE, PITCH, WORD_GAP = 1, 3, 7  # of espeak_PARAMETER
NO_EVENT, WORD, PHONEME = 0, 1, 7  # of espeak_EVENT_TYPE; the first ends a list
AT_CHARACTER = 1
UTF8, PHONEMES_IN_BRACKETS, PAUSE_AT_END = 1, 0x100, 0x1000  # flags of what is spoken
PAUSE = b"_"  # begins the names of the phonemes that are silence


class _Voice(ctypes.Structure):
    """What a voice is looked for by, where it is no name: an accent is one of its languages."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_char_p),
        ("identifier", ctypes.c_char_p),
        ("gender", ctypes.c_ubyte),
        ("age", ctypes.c_ubyte),
        ("variant", ctypes.c_ubyte),
        ("reserved", ctypes.c_ubyte),
        ("score", ctypes.c_int),
        ("spare", ctypes.c_void_p),
    )


class _Event(ctypes.Structure):
    _fields_ = (
        ("kind", ctypes.c_int),
        ("unique", ctypes.c_uint),
        ("text_position", ctypes.c_int),  # from 1, in characters
        ("length", ctypes.c_int),
        ("audio_milliseconds", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("name", ctypes.c_char * 8),
    )


_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


@dataclass(frozen=True)
class Word:
    """A word of the text, and when it is spoken: seconds. `end` is None where nothing tells it."""

    text: str
    start: float
    end: float | None


@dataclass
class _Heard:
    """What the library has called back with: samples, and (kind, place in the text, sample, name) of each event."""

    audio: list[NDArray[np.int16]] = field(default_factory=list)
    events: list[tuple[int, int, int, bytes]] = field(default_factory=list)

    def take(self, samples: Any, count: int, events: Any) -> int:
        if samples and count > 0:
            self.audio.append(np.ctypeslib.as_array(samples, (count,)).copy())
        place = 0
        while events[place].kind != NO_EVENT:
            event = events[place]
            self.events.append((event.kind, event.text_position, event.sample, event.name))
            place += 1
        return 0  # go on


def speak(text: str, voice: Voice) -> tuple[NDArray[np.int16], list[Word]]:
    """Return `text` as `demo.speech.speak` has it, int16 [samples] at 16 kHz, and its words in the order of the text.

    Words that espeak-ng runs together ("on the") have one event: the others of them are left out. Raises OSError where
    the library is not installed, ValueError where it does not know the voice.
    """
    library, rate = _library()
    name = f"{voice.accent}+{voice.variant}".encode()
    if library.espeak_SetVoiceByName(name) and library.espeak_SetVoiceByProperties(ctypes.byref(_Voice(None, name))):
        raise ValueError(f"espeak-ng has no voice {voice.accent}+{voice.variant}")
    for parameter, value in ((RATE, voice.words_per_minute), (PITCH, voice.pitch), (WORD_GAP, voice.gap)):
        library.espeak_SetParameter(parameter, value, 0)
    heard = _Heard()
    callback = _CALLBACK(heard.take)
    library.espeak_SetSynthCallback(callback)
    content, flags = text.encode(), UTF8 | PHONEMES_IN_BRACKETS | PAUSE_AT_END
    library.espeak_Synth(content, len(content) + 1, 0, AT_CHARACTER, 0, flags, None, None)
    library.espeak_Synchronize()
    samples = np.concatenate(heard.audio).astype(np.float32) / 32768
    audio, cut = prepared(samples, rate * voice.speed)
    words = [
        Word(word, _seconds(start, rate, voice, cut), None if end is None else _seconds(end, rate, voice, cut))
        for word, start, end in _words(text, heard)
    ]
    return audio, words


def _words(text: str, heard: _Heard) -> Iterator[tuple[str, int, int | None]]:
    """Yield each word that has an event, with the samples where it begins and ends, before any pause after it."""
    places = _places(text)
    begun = [
        (number, index)
        for number, (kind, place, *_) in enumerate(heard.events)
        if kind == WORD
        for index in [places.get(place)]
        if index is not None
    ]
    words = text.split()
    for (number, index), (following, after) in zip(begun, [*begun[1:], (len(heard.events), len(words))], strict=True):
        inside = heard.events[number:following]
        pauses = [sample for kind, _, sample, name in inside if kind == PHONEME and name.startswith(PAUSE)]
        spoken = [sample for kind, _, sample, name in inside if kind == PHONEME and not name.startswith(PAUSE)]
        ends = [sample for sample in pauses if not spoken or sample > spoken[-1]]
        if following < len(heard.events):
            ends.append(heard.events[following][2])
        yield words[index], heard.events[number][2], ends[0] if ends and after == index + 1 else None


def _places(text: str) -> dict[int, int]:
    """Return which word begins at which character, from 1."""
    places, at = {}, 0
    for index, word in enumerate(text.split()):
        at = text.index(word, at)
        places[at + 1] = index
        at += len(word)
    return places


def _seconds(sample: int, rate: int, voice: Voice, cut: int) -> float:
    return sample / (rate * voice.speed) - cut / SAMPLE_RATE


@cache
def _library() -> tuple[ctypes.CDLL, int]:
    """Return the library and its sample rate."""
    library = ctypes.CDLL(LIBRARY)
    return library, library.espeak_Initialize(RETRIEVE, 0, None, PHONEME_EVENTS)
