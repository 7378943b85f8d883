"""Recordings of any length, made of the demo's sentences, and how many words of them were misheard."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from rapidfuzz.distance import Levenshtein

from benchmarks.machine import ROOT
from engines.batch import Clip

AUDIO = ROOT / "demo" / "audio"
RATE = 16_000
PAUSES = (0.3, 1.0)  # between two sentences, in seconds
HISS = 1e-4  # of the pauses: no recording has digital silence


@dataclass(frozen=True)
class Sentence:
    """What was said."""

    clip: Clip
    text: str


def sentences() -> list[Sentence]:
    """Return the demo's sentences."""
    files = sorted(AUDIO.glob("*.flac"))
    return [
        Sentence(soundfile.read(file, dtype="float32")[0], file.with_suffix(".txt").read_text().strip())
        for file in files
    ]


def sequence(said: Sequence[Sentence], seconds: float, random: np.random.Generator) -> Iterator[Sentence]:
    """Yield sentences in a random order, each with the pause behind it, as long as they fit into `seconds`."""
    left = round(seconds * RATE)
    while True:
        for index in random.permutation(len(said)):
            pause = random.standard_normal(round(random.uniform(*PAUSES) * RATE)) * HISS
            clip = np.concatenate([said[index].clip, pause.astype(np.float32)])
            left -= len(clip)
            if left < 0:
                return
            yield Sentence(clip, said[index].text)


def joined(said: Sequence[Sentence], seconds: float, random: np.random.Generator) -> Sentence:
    """Return as many sentences as fit into `seconds`, as one."""
    parts = list(sequence(said, seconds, random))
    return Sentence(np.concatenate([part.clip for part in parts]), " ".join(part.text for part in parts))


def write_recording(
    path: Path, said: Sequence[Sentence], seconds: float, random: np.random.Generator
) -> tuple[str, float]:
    """Write sentences as FLAC; return what is said in them, and their duration."""
    texts, samples = [], 0
    with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16") as file:
        for one in sequence(said, seconds, random):
            file.write(one.clip)
            samples += len(one.clip)
            texts.append(one.text)
    return " ".join(texts), samples / RATE


def word_errors(pairs: Sequence[tuple[str, str]]) -> float:
    """Return the edits that turn what was heard into what was said, by the words that were said."""
    words = [(said.upper().split(), heard.upper().split()) for said, heard in pairs]
    return sum(Levenshtein.distance(said, heard) for said, heard in words) / sum(len(said) for said, _ in words)
