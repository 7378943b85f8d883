"""Speech for the demonstration: espeak-ng speaks the sentences of the grammar in many voices.

Three splits that share no text: `train`, `dev` (read while training) and `test` (read once, by the evaluation). Nor do
they share a voice: `demo.voices` says who speaks in which.
"""

import io
import json
import random
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import soundfile
import soxr
from rich.progress import track

from demo.sentences import Sentence, distinct, sentences
from demo.voices import DEV_VARIANTS, TEST_VARIANTS, Voice, draw_training_voice, draw_voice, espeak_arguments

SAMPLE_RATE = 16000


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


def speak(text: str, voice: Voice) -> np.ndarray:
    """`text` as int16 [samples] at 16 kHz.

    Raises subprocess.CalledProcessError where espeak-ng refuses the voice.
    """
    command = ["espeak-ng", *espeak_arguments(voice), "--stdout", text]
    wave = subprocess.run(command, check=True, capture_output=True).stdout
    audio, rate = soundfile.read(io.BytesIO(wave), dtype="float32")
    return prepared(audio, rate * voice.speed)[0]


def prepared(audio: np.ndarray, rate: float) -> tuple[np.ndarray, int]:
    """Return what espeak-ng spoke as int16 [samples] at 16 kHz, and how many of these are cut off before the first."""
    audio = soxr.resample(audio, rate, SAMPLE_RATE)
    loud = np.flatnonzero(np.abs(audio) > 0.003)
    margin = SAMPLE_RATE // 20  # 50 ms: espeak's own silence at both ends is of one length, which would be learnt
    start = max(0, loud[0] - margin)
    quantised: np.ndarray = np.clip(np.round(audio[start : loud[-1] + margin] * 32767 * 0.8), -32768, 32767)
    return quantised.astype(np.int16), int(start)


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


def held_out(seed: int) -> set[str]:
    """Return the texts of `test` and of `dev`."""
    return {sentence.text for split in ("test", "dev") for sentence in split_sentences(split, 0, seed)}


def synthesise(split: str, count: int, seed: int, cache: Path) -> Speech:
    """Speak a split once and keep it under `cache`; only `train` has a `count`."""
    name = f"train-{seed}-{count}" if split == "train" else f"{split}-{seed}"
    rng = random.Random(f"{split} {seed}")
    spoken, tasks = split_sentences(split, count, seed), []
    for sentence in spoken:
        voice = draw_training_voice(rng) if split == "train" else draw_voice(rng, variants_of(split), vary_speed=False)
        tasks.append((with_prosody(sentence.text, rng), voice))
    return recorded(name, tasks, [(sentence.text, sentence.intent) for sentence in spoken], cache)


def variants_of(split: str) -> tuple[str, ...]:
    """List the held-out voices of `dev` or of a test."""
    return DEV_VARIANTS if split == "dev" else TEST_VARIANTS


def recorded(name: str, spoken: list[tuple[str, Voice]], labels: list[tuple[str, str]], cache: Path) -> Speech:
    """Speak each text in its voice, or read `name` from `cache`; `labels` are the clips' texts and intents."""
    audio_file, index_file = cache / f"{name}.npy", cache / f"{name}.json"
    if not index_file.exists():
        cache.mkdir(parents=True, exist_ok=True)
        clips, pieces, start = [], [], 0
        with ThreadPoolExecutor() as pool:
            audio = pool.map(lambda task: speak(*task), spoken)
            for piece, (_, voice), (text, intent) in track(
                zip(audio, spoken, labels, strict=True), f"speaking {name}", total=len(spoken)
            ):
                pieces.append(piece)
                clips.append(Clip(text, intent, voice, start, len(piece)))
                start += len(piece)
        np.save(audio_file, np.concatenate(pieces))
        index_file.write_text(json.dumps([asdict(clip) for clip in clips]))
    clips = [Clip(**{**row, "voice": Voice(**row["voice"])}) for row in json.loads(index_file.read_text())]
    return Speech(np.load(audio_file, mmap_mode="r"), clips)
