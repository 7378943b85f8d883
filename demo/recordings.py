"""Make the recordings that people try the demonstration with: `python -m demo.recordings`.

They are taken from the test split, that is voices and sentences that no training clip has, and are chosen to be ones
that the stored checkpoints get right: a first try should show what a right answer looks like. How often they are wrong
stands in the cards.
"""

import argparse
import random
from pathlib import Path

import soundfile
import torch
from rich.console import Console
from transformers import HubertForCTC, HubertForSequenceClassification

from demo.measure import classify, transcribe
from demo.sentences import GENERAL, INTENTS
from demo.speech import SAMPLE_RATE, Clip, Speech, synthesise
from demo.train import CTC, INTENT

AUDIO = Path(__file__).parent / "audio"
COUNT = 12
SECONDS = (2.0, 4.0)
_PLAIN = """a an and any are at be back can could do does for from get has have how i i'm in is it it's like long me much my
of on put set should some take that the there this to turn was way we what what's when where will with you your please"""


def name_of(text: str) -> str:
    """A short file name from the words of `text` that say most: `off-kitchen-lights` for `turn off the kitchen lights`."""
    words = [word.replace("'", "") for word in text.split() if word not in _PLAIN.split()]
    return "-".join(words[:3]) or text.replace(" ", "-")


def choose(clips: list[Clip], speech: Speech, ctc: HubertForCTC, intent: HubertForSequenceClassification) -> list[Clip]:
    """Twelve clips that both models get right: as many intents and as many voices as there are, taken in turn."""
    random.Random(0).shuffle(clips)
    wanted = [*INTENTS, GENERAL, *INTENTS][:COUNT]
    chosen: list[Clip] = []
    for label in wanted:
        voices = [clip.voice.variant for clip in chosen]
        fitting = [
            clip
            for clip in clips
            if clip.intent == label and clip not in chosen and SECONDS[0] <= clip.samples / SAMPLE_RATE <= SECONDS[1]
        ]
        for clip in sorted(fitting, key=lambda clip: voices.count(clip.voice.variant)):
            waveform = speech.waveform(clip)
            known = label == GENERAL or classify(intent, waveform) == label
            if (
                known
                and transcribe(ctc, waveform) == clip.text
                and name_of(clip.text) not in {name_of(other.text) for other in chosen}
            ):
                chosen.append(clip)
                break
    return chosen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--cache", type=Path, default=Path("/tmp/sonant-demo"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    speech = synthesise("test", 0, options.seed, options.cache)
    ctc = HubertForCTC.from_pretrained(CTC, dtype=torch.float32).eval()
    intent = HubertForSequenceClassification.from_pretrained(INTENT, dtype=torch.float32).eval()
    AUDIO.mkdir(exist_ok=True)
    for old in [*AUDIO.glob("*.flac"), *AUDIO.glob("*.txt")]:
        old.unlink()
    for clip in choose(list(speech.clips), speech, ctc, intent):
        file = AUDIO / f"{name_of(clip.text)}.flac"
        soundfile.write(file, speech.audio[clip.start : clip.start + clip.samples], SAMPLE_RATE, subtype="PCM_16")
        file.with_suffix(".txt").write_text(clip.text + "\n")
        Console().print(
            f"{file.name}  {clip.samples / SAMPLE_RATE:.1f} s  {clip.voice.accent}+{clip.voice.variant}  {clip.text}"
        )


if __name__ == "__main__":
    main()
