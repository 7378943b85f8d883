"""Measure the checkpoints on voices and sentences that training never heard, and write the figures where they belong.

`python -m demo.evaluate` fills in the models' cards and the README. Each clip is given to transformers alone and
unpadded, with the weights as they are stored (bf16 numbers, computed with in float32).
"""

import argparse
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from transformers import HubertForCTC, HubertForSequenceClassification, PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from demo.augment import add_noise, babble, white_to
from demo.cards import ctc_card, intent_card, replace_between
from demo.measure import classify, edits, error_rate, transcribe
from demo.network import load, parameters
from demo.sentences import INTENTS
from demo.speech import SAMPLE_RATE, TEST_WOMEN, Clip, Speech, synthesise
from demo.train import CACHE, CTC, INTENT

HERE = Path(__file__).parent
NOISES = ("", "pink", "babble")
SNR_DB = 20.0
Row = tuple[str, str]


@dataclass(frozen=True)
class Heard:
    """A clip of the test and what the model made of it."""

    clip: Clip
    answer: str


def noise_of(kind: str, speech: Speech, rng: np.random.Generator) -> np.ndarray:
    """Make a minute of `kind`; babble is of the other test clips."""
    samples = 60 * SAMPLE_RATE
    return babble(speech, samples, rng) if kind == "babble" else white_to(0.5, samples, rng)


def listen(speech: Speech, clips: list[Clip], answer: Callable[[np.ndarray], str], noise: str = "") -> list[Heard]:
    """Ask `answer` about every clip, in `noise` at 20 dB below the speech where one is named."""
    rng = np.random.default_rng(0)
    bank = noise_of(noise, speech, rng) if noise else None
    heard = []
    for clip in track(clips, f"listening {noise or 'clean'}"):
        waveform = speech.waveform(clip)
        if bank is not None:
            waveform = add_noise(waveform, bank, SNR_DB, float(np.mean(waveform**2)), rng)
        heard.append(Heard(clip, answer(waveform)))
    return heard


def words_wrong(heard: list[Heard]) -> float:
    """Word error rate."""
    return error_rate([(item.clip.text, item.answer) for item in heard])


def interval(heard: list[Heard], draws: int = 1000) -> str:
    """Estimate the 95 % interval of the word error rate by resampling clips."""
    counts = [(edits(item.clip.text.split(), item.answer.split()), len(item.clip.text.split())) for item in heard]
    rng = random.Random(0)
    rates = []
    for _ in range(draws):
        drawn = rng.choices(counts, k=len(counts))
        rates.append(sum(wrong for wrong, _ in drawn) / sum(words for _, words in drawn))
    rates.sort()
    return f"{rates[draws // 40]:.2%} to {rates[-draws // 40]:.2%}"


def by_voice(heard: list[Heard]) -> str:
    """Write the word error rate of every voice, best first: how much it depends on who speaks."""
    voices = {item.clip.voice.variant for item in heard}
    rates = {voice: words_wrong([item for item in heard if item.clip.voice.variant == voice]) for voice in voices}
    return ", ".join(f"{voice} {rates[voice]:.1%}" for voice in sorted(voices, key=lambda voice: rates[voice]))


def ctc_figures(model: HubertForCTC, speech: Speech, shuffled: Speech) -> tuple[list[Row], list[Heard]]:
    """Measure the transcriber: the rows of its table, and what it wrote of the clean test."""

    def answer(waveform: np.ndarray) -> str:
        return transcribe(model, waveform)

    clean, pink, chatter = (listen(speech, speech.clips, answer, noise) for noise in NOISES)
    random_words = listen(shuffled, shuffled.clips, answer)
    women = [item for item in clean if item.clip.voice.variant in TEST_WOMEN]
    men = [item for item in clean if item.clip.voice.variant not in TEST_WOMEN]
    letters = error_rate([(item.clip.text, item.answer) for item in clean], letters=True)
    exact = sum(item.clip.text == item.answer for item in clean) / len(clean)
    rows = [
        (
            f"word error rate, clean ({len(clean)} clips)",
            f"**{words_wrong(clean):.2%}** (95 % interval {interval(clean)})",
        ),
        ("word error rate, pink noise at 20 dB", f"{words_wrong(pink):.2%}"),
        ("word error rate, babble of six talkers at 20 dB", f"{words_wrong(chatter):.2%}"),
        (
            f"word error rate, clean, female voices ({len(women)}) and male ({len(men)})",
            f"{words_wrong(women):.2%} and {words_wrong(men):.2%}",
        ),
        (
            f"word error rate, clean, words in random order ({len(random_words)} clips)",
            f"{words_wrong(random_words):.2%}",
        ),
        ("word error rate, clean, voice by voice", by_voice(clean)),
        ("letter error rate, clean", f"{letters:.2%}"),
        ("sentences without any error, clean", f"{exact:.1%}"),
    ]
    return rows, clean


def intent_figures(model: HubertForSequenceClassification, speech: Speech) -> list[Row]:
    """Measure the classifier: the rows of its table."""
    clips = [clip for clip in speech.clips if clip.intent in INTENTS]
    rows = []
    for noise, name in zip(NOISES, ("clean", "pink noise at 20 dB", "babble of six talkers at 20 dB"), strict=True):
        heard = listen(speech, clips, lambda waveform: classify(model, waveform), noise)
        right = sum(item.clip.intent == item.answer for item in heard) / len(heard)
        rows.append((f"top-1 accuracy of {len(INTENTS)} intents, {name} ({len(clips)} clips)", f"{right:.1%}"))
    return rows


def size_row(model: PreTrainedModel, folder: Path) -> Row:
    """Parameters, and the bytes of the weights file."""
    return "parameters; weights file", f"{parameters(model):,}; {(folder / 'model.safetensors').stat().st_size:,} bytes"


def table(rows: list[Row]) -> str:
    """`rows` as a Markdown table."""
    return "\n".join(["| measured | |", "|---|---|", *(f"| {name} | {figure} |" for name, figure in rows)])


def main() -> None:
    """Measure both checkpoints, and print the first mistakes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=7, help="that of the training: it draws the held-out sentences")
    parser.add_argument("--cache", type=Path, default=CACHE, help="where the synthesised speech is kept")
    parser.add_argument("--mistakes", type=int, default=25, help="how many wrong sentences to show")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    disable_progress_bar()
    torch.set_num_threads(options.threads)
    console = Console()
    speech, shuffled = (synthesise(split, 0, options.seed, options.cache) for split in ("test", "test-random"))
    sections = []

    ctc = load(HubertForCTC, CTC)
    rows, clean = ctc_figures(ctc, speech, shuffled)
    written = table([*rows, size_row(ctc, CTC)])
    (CTC / "README.md").write_text(ctc_card(written))
    sections.append(f"`hubert-ctc-english`\n\n{written}")
    wrong = [item for item in clean if item.clip.text != item.answer]
    for item in wrong[: options.mistakes]:
        console.print(
            f"[dim]{item.clip.voice.accent}+{item.clip.voice.variant}[/]  {item.clip.text}  ->  {item.answer}"
        )

    if (INTENT / "config.json").exists():
        intent = load(HubertForSequenceClassification, INTENT)
        written = table([*intent_figures(intent, speech), size_row(intent, INTENT)])
        (INTENT / "README.md").write_text(intent_card(written))
        sections.append(f"`hubert-intent-english`\n\n{written}")
    readme = HERE / "README.md"
    readme.write_text(replace_between(readme.read_text(), "figures", "\n\n".join(sections)))
    for section in sections:
        console.print(section, markup=False)


if __name__ == "__main__":
    main()
