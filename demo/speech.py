"""Speech for the demonstration: espeak-ng speaks the sentences of the grammar in many voices.

Three splits that share no text: `train`, `dev` (read while training) and `test` (read once, by the evaluation). The
voices of `dev` and of `test` are espeak-ng variants, that is timbres, that no training clip has in any accent.
"""

import io
import json
import random
import subprocess
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import soundfile
import soxr
from rich.progress import track

from demo.sentences import Sentence, distinct, sentences

SAMPLE_RATE = 16000
ACCENTS = ("en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp", "en-us-nyc", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-029")
_TRAIN = """m1 m3 m4 m6 m7 m8 f1 f4 Alex Andy antonio benjamin boris caleb ed edward gene Henrique Hugo john Marco max
michel miguel mike pablo paul pedro quincy rob sandro shelby travis Zac anika Annie Andrea aunty steph steph2 steph3
grandma Denis"""
TRAIN_VARIANTS = tuple(_TRAIN.split())
DEV_VARIANTS = ("m5", "victor", "f5", "belinda")
TEST_MEN, TEST_WOMEN = ("m2", "Michael", "robert", "david"), ("f3", "linda", "Alicia", "f2")
TEST_VARIANTS = TEST_MEN + TEST_WOMEN


@dataclass(frozen=True)
class Voice:
    """How a sentence is spoken. `gap` is espeak's: 10 ms between words; `speed` resamples, and so shifts formants."""

    accent: str
    variant: str
    words_per_minute: int
    pitch: int
    gap: int
    speed: float = 1.0


@dataclass(frozen=True)
class Clip:
    """One spoken sentence: `samples` at 16 kHz from `start` in the split's array."""

    text: str
    intent: str
    voice: Voice
    start: int
    samples: int


@dataclass(frozen=True)
class Speech:
    """A split: int16 audio [total samples], one clip after the other, and what each is."""

    audio: np.ndarray
    clips: list[Clip]

    def waveform(self, clip: Clip) -> np.ndarray:
        """float32 [samples] in [-1, 1]."""
        return self.audio[clip.start : clip.start + clip.samples].astype(np.float32) / 32768


def draw_voice(rng: random.Random, variants: tuple[str, ...], vary_speed: bool) -> Voice:
    """Draw a voice. Gaps are mostly none or short, as people speak, and now and then long, as people dictate."""
    gap = rng.choice((0, 0, 0, 0, 1, 1, 2, 3, 5, 8))
    speed = rng.uniform(0.9, 1.12) if vary_speed else 1.0
    return Voice(
        rng.choice(ACCENTS), rng.choice(variants), rng.randint(120, 210), rng.randint(30, 70), gap, round(speed, 3)
    )


def speak(text: str, voice: Voice) -> np.ndarray:
    """`text` as int16 [samples] at 16 kHz.

    Raises subprocess.CalledProcessError where espeak-ng refuses the voice.
    """
    manner = f"-v {voice.accent}+{voice.variant} -s {voice.words_per_minute} -p {voice.pitch} -g {voice.gap}"
    command = ["espeak-ng", *manner.split(), "--stdout", text]
    wave = subprocess.run(command, check=True, capture_output=True).stdout
    audio, rate = soundfile.read(io.BytesIO(wave), dtype="float32")
    audio = soxr.resample(audio, rate * voice.speed, SAMPLE_RATE)
    loud = np.flatnonzero(np.abs(audio) > 0.003)
    margin = SAMPLE_RATE // 20  # 50 ms: espeak's own silence at both ends is of one length, which would be learnt
    audio = audio[max(0, loud[0] - margin) : loud[-1] + margin]
    quantised: np.ndarray = np.clip(np.round(audio * 32767 * 0.8), -32768, 32767).astype(np.int16)
    return quantised


def with_prosody(text: str, rng: random.Random) -> str:
    """`text` with the punctuation that makes espeak-ng vary its melody, and now and then pause inside the sentence."""
    words = text.split()
    if len(words) > 3 and rng.random() < 0.12:
        at = rng.randrange(1, len(words) - 1)
        words[at] += ","
    return " ".join(words) + rng.choice((".", ".", "?", "!", ""))


def split_sentences(split: str, count: int, seed: int) -> list[Sentence]:
    """Draw the texts of a split; those of `test` and of `dev` are drawn first, and the others never repeat them."""
    test = distinct(600, random.Random(seed + 1), set())
    taken = {sentence.text for sentence in test}
    dev = distinct(160, random.Random(seed + 2), taken)
    taken |= {sentence.text for sentence in dev}
    shuffled = distinct(200, random.Random(seed + 3), taken, random_share=1.0)
    taken |= {sentence.text for sentence in shuffled}
    if split != "train":
        return {"test": test, "dev": dev, "test-random": shuffled}[split]
    endless = sentences(random.Random(seed + 4), random_share=0.35)
    return list(islice((sentence for sentence in endless if sentence.text not in taken), count))


def synthesise(split: str, count: int, seed: int, cache: Path) -> Speech:
    """Speak a split once and keep it under `cache`; only `train` has a `count`."""
    name = f"train-{seed}-{count}" if split == "train" else f"{split}-{seed}"
    audio_file, index_file = cache / f"{name}.npy", cache / f"{name}.json"
    if index_file.exists():
        clips = [Clip(**{**row, "voice": Voice(**row["voice"])}) for row in json.loads(index_file.read_text())]
        return Speech(np.load(audio_file, mmap_mode="r"), clips)
    cache.mkdir(parents=True, exist_ok=True)
    rng = random.Random(f"{split} {seed}")
    variants = {"train": TRAIN_VARIANTS, "dev": DEV_VARIANTS}.get(split, TEST_VARIANTS)
    pieces, clips, start = [], [], 0
    for sentence in track(split_sentences(split, count, seed), f"speaking {split}"):
        voice = draw_voice(rng, variants, vary_speed=split == "train")
        piece = speak(with_prosody(sentence.text, rng), voice)
        pieces.append(piece)
        clips.append(Clip(sentence.text, sentence.intent, voice, start, len(piece)))
        start += len(piece)
    np.save(audio_file, np.concatenate(pieces))
    index_file.write_text(json.dumps([asdict(clip) for clip in clips]))
    return Speech(np.load(audio_file, mmap_mode="r"), clips)
