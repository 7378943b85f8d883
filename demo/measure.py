"""Error rates, answers to held-out clips, and the tables that they are written in."""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from rapidfuzz.distance import Levenshtein
from rich.progress import track

from demo.augment import add_noise, babble, white_to
from demo.speech import SAMPLE_RATE, Clip, Speech

NOISES = {"": "clean", "pink": "pink noise at 20 dB", "babble": "babble of six talkers at 20 dB"}
SNR_DB = 20.0
Row = tuple[str, str]


def error_rate(pairs: list[tuple[str, str]], letters: bool = False) -> float:
    """Word (or letter) error rate of (spoken, written) pairs: edits over spoken words."""
    cut = [(list(a), list(b)) if letters else (a.split(), b.split()) for a, b in pairs]
    return sum(Levenshtein.distance(a, b) for a, b in cut) / sum(len(a) for a, _ in cut)


@dataclass(frozen=True)
class Heard:
    """A clip of the test, what should be answered, and what the model answered."""

    clip: Clip
    right: str
    answer: str


def noise_of(kind: str, speech: Speech, rng: np.random.Generator) -> np.ndarray:
    """Make a minute of `kind`; babble is of the other test clips."""
    samples = 60 * SAMPLE_RATE
    return babble(speech, samples, rng) if kind == "babble" else white_to(0.5, samples, rng)


def listen(
    speech: Speech, asked: list[tuple[Clip, str]], answer: Callable[[np.ndarray], str], noise: str = ""
) -> list[Heard]:
    """Ask `answer` about every clip, in `noise` at 20 dB below the speech where one is named."""
    rng = np.random.default_rng(0)
    bank = noise_of(noise, speech, rng) if noise else None
    heard = []
    for clip, right in track(asked, f"listening {noise or 'clean'}"):
        waveform = speech.waveform(clip)
        if bank is not None:
            waveform = add_noise(waveform, bank, SNR_DB, float(np.mean(waveform**2)), rng)
        heard.append(Heard(clip, right, answer(waveform)))
    return heard


def words_wrong(heard: list[Heard]) -> float:
    """Word error rate."""
    return error_rate([(item.right, item.answer) for item in heard])


def exact(heard: list[Heard]) -> float:
    """Share of the answers that are right to the letter."""
    return sum(item.right == item.answer for item in heard) / len(heard)


def interval(heard: list[Heard], draws: int = 1000) -> str:
    """Estimate the 95 % interval of the word error rate by resampling clips."""
    counts = [
        (Levenshtein.distance(item.right.split(), item.answer.split()), len(item.right.split())) for item in heard
    ]
    rng = random.Random(0)
    rates = []
    for _ in range(draws):
        drawn = rng.choices(counts, k=len(counts))
        rates.append(sum(wrong for wrong, _ in drawn) / sum(words for _, words in drawn))
    rates.sort()
    return f"{rates[draws // 40]:.2%} to {rates[-draws // 40]:.2%}"


def by_voice(heard: list[Heard], measure: Callable[[list[Heard]], float]) -> str:
    """Write `measure` of every voice, lowest first: how much it depends on who speaks."""
    voices = {item.clip.voice.variant for item in heard}
    rates = {voice: measure([item for item in heard if item.clip.voice.variant == voice]) for voice in voices}
    return ", ".join(f"{voice} {rates[voice]:.1%}" for voice in sorted(voices, key=lambda voice: rates[voice]))


def accuracy_rows(
    what: str, speech: Speech, asked: list[tuple[Clip, str]], answer: Callable[[np.ndarray], str]
) -> tuple[list[Row], list[Heard]]:
    """Measure how often `answer` is right, clean and in noise: rows of a table, and the clean answers."""
    heard = {name: listen(speech, asked, answer, noise) for noise, name in NOISES.items()}
    rows = [(f"{what}, {name} ({len(asked)} clips)", f"{exact(items):.1%}") for name, items in heard.items()]
    clean = heard[NOISES[""]]
    return [*rows, (f"{what}, clean, voice by voice", by_voice(clean, exact))], clean


def table(rows: list[Row]) -> str:
    """`rows` as a Markdown table."""
    return "\n".join(["| measured | |", "|---|---|", *(f"| {name} | {figure} |" for name, figure in rows)])


def replace_between(document: str, name: str, content: str) -> str:
    """Return `document` with `content` between its markers `<!-- name -->` and `<!-- /name -->`.

    Raises ValueError where the markers are missing.
    """
    pattern = re.compile(rf"(<!-- {name} -->).*?(<!-- /{name} -->)", re.DOTALL)
    if not pattern.search(document):
        raise ValueError(f"no markers <!-- {name} --> in the document")
    return pattern.sub(lambda match: f"{match[1]}\n{content}\n{match[2]}", document)
