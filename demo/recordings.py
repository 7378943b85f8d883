"""Make the recordings that people try the demonstration with: `python -m demo.recordings`.

They are taken from the test split, that is voices and sentences that no training clip has, and are chosen to be ones
that the stored checkpoints get right: a first try should show what a right answer looks like. How often they are wrong
stands in the cards.
"""

import argparse
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import soundfile
import torch
from rich.console import Console
from transformers import HubertForCTC, HubertForSequenceClassification
from transformers.utils.logging import disable_progress_bar

from demo.measure import classify, transcribe
from demo.network import load
from demo.sentences import GENERAL, INTENTS
from demo.speech import SAMPLE_RATE, Clip, Speech, synthesise
from demo.train import CACHE, CTC, INTENT

AUDIO = Path(__file__).parent / "audio"
COUNT = 12
SECONDS = (2.0, 4.0)
_PLAIN = """a am an and any she are at be back can could do does for from get has have how i i'm in is it it's like
long me much my of on put set should some take that the there this to turn was way we what what's when where will
with you your please"""


def name_of(text: str) -> str:
    """Make a short file name of the words that say most: `off-kitchen-lights` for `turn off the kitchen lights`."""
    words = [word.replace("'", "") for word in text.split() if word not in _PLAIN.split()]
    return "-".join(words[:3]) or text.replace(" ", "-")


def choose(speech: Speech, right: Callable[[Clip], bool]) -> list[Clip]:
    """Twelve clips of 2 to 4 s that are `right`: every intent, and as many voices as there are, in turn."""
    lasting = [clip for clip in speech.clips if SECONDS[0] <= clip.samples / SAMPLE_RATE <= SECONDS[1]]
    random.Random(0).shuffle(lasting)
    chosen: dict[str, Clip] = {}
    for intent in [*INTENTS, GENERAL, *INTENTS][:COUNT]:
        voices = Counter(clip.voice.variant for clip in chosen.values())
        fitting = [clip for clip in lasting if clip.intent == intent and name_of(clip.text) not in chosen]
        fitting.sort(key=lambda clip: voices[clip.voice.variant])
        clip = next(filter(right, fitting))
        chosen[name_of(clip.text)] = clip
    return list(chosen.values())


def main() -> None:
    """Choose the recordings and write them, each with its text."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--cache", type=Path, default=CACHE)
    options = parser.parse_args()
    disable_progress_bar()
    torch.set_num_threads(1)
    speech = synthesise("test", 0, options.seed, options.cache)
    ctc = load(HubertForCTC, CTC)
    intent = load(HubertForSequenceClassification, INTENT)

    def right(clip: Clip) -> bool:
        waveform = speech.waveform(clip)
        named = clip.intent == GENERAL or classify(intent, waveform) == clip.intent
        return named and transcribe(ctc, waveform) == clip.text

    AUDIO.mkdir(exist_ok=True)
    for old in [*AUDIO.glob("*.flac"), *AUDIO.glob("*.txt")]:
        old.unlink()
    for clip in choose(speech, right):
        file = AUDIO / f"{name_of(clip.text)}.flac"
        soundfile.write(file, speech.audio[clip.start : clip.start + clip.samples], SAMPLE_RATE, subtype="PCM_16")
        file.with_suffix(".txt").write_text(clip.text + "\n")
        Console().print(
            f"{file.name}  {clip.samples / SAMPLE_RATE:.1f} s  {clip.voice.accent}+{clip.voice.variant}  {clip.text}"
        )


if __name__ == "__main__":
    main()
