"""Write the clips by which the engines are judged: `python -m demo.held_out FOLDER`.

`FOLDER/NAME` is what `sonant evaluate` takes for the checkpoint NAME: clips of voices, sentences and seeds that no
training clip has, with the right answers in `clips.jsonl`. `FOLDER/calibration/NAME` has other clips, those that were
read while training, for `sonant export --calibrate`: what is judged by must not be tuned on.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import soundfile
from rich.console import Console

from demo.sounds import EVENTS, sounds
from demo.speech import SAMPLE_RATE, Clip, Speech, synthesise
from demo.tasks import commands, events, intent, transcribe, translate, words
from demo.train import CACHE
from demo.words import label_of, synthesise_words

CLIPS = 200  # of each checkpoint: one more or less that is right is half a per cent
CALIBRATION_CLIPS = 24
Answers = dict[str, str]  # a line of clips.jsonl, but for its path
Drawn = Iterator[tuple[np.ndarray, Answers]]
Draw = Callable[[str, int, Path], Drawn]


def _sentences(split: str, seed: int, cache: Path) -> Drawn:
    return _said(synthesise(split, 0, seed, cache), lambda clip: {"text": clip.text})


def _intents(split: str, seed: int, cache: Path) -> Drawn:
    speech = synthesise(split, 0, seed, cache)
    return _said(Speech(speech.audio, intent.intended(speech.clips)), lambda clip: {"label": clip.intent})


def _translations(split: str, seed: int, cache: Path) -> Drawn:
    speech = synthesise(split, 0, seed, cache)
    for clip, german in translate.translated(speech.clips):
        yield speech.waveform(clip), {"text": german}


def _commands(split: str, seed: int, cache: Path) -> Drawn:
    return _said(synthesise_words(split, seed, cache), lambda clip: {"label": label_of(clip)})


def _words(split: str, seed: int, cache: Path) -> Drawn:
    speech = synthesise_words(split, seed, cache)
    return _said(
        Speech(speech.audio, words.spoken(speech)),
        lambda clip: {"label": clip.text, "group": clip.text, "speaker": clip.voice.variant},
    )


def _sounds(split: str, seed: int, cache: Path) -> Drawn:
    each = -(-CLIPS // len(EVENTS))
    for waveform, event in sounds(split, each, synthesise(split, 0, seed, cache)):
        yield waveform, {"label": event}


def _said(speech: Speech, answers: Callable[[Clip], Answers]) -> Drawn:
    for clip in speech.clips:
        yield speech.waveform(clip), answers(clip)


DRAWS: dict[str, Draw] = {
    transcribe.FOLDER.name: _sentences,
    intent.FOLDER.name: _intents,
    translate.FOLDER.name: _translations,
    commands.FOLDER.name: _commands,
    words.FOLDER.name: _words,
    events.FOLDER.name: _sounds,
}


def write(folder: Path, clips: Drawn) -> int:
    """Write `clips` and their `clips.jsonl` into `folder`; return how many they are."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number, (waveform, answers) in enumerate(clips):
        name = f"{number:03}.flac"
        soundfile.write(folder / name, waveform, SAMPLE_RATE, subtype="PCM_16")
        lines.append(json.dumps({"audio": name, **answers}, ensure_ascii=False) + "\n")
    (folder / "clips.jsonl").write_text("".join(lines), encoding="utf-8")
    return len(lines)


def main() -> None:
    """Write the clips of the checkpoints that are named, or of all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(DRAWS)}; all when none is named")
    parser.add_argument("--clips", type=int, default=CLIPS, help=f"of each at most (default: {CLIPS})")
    parser.add_argument("--seed", type=int, default=7, help="that of the training: it draws the held-out sentences")
    parser.add_argument("--cache", type=Path, default=CACHE, help="where what is synthesised is kept")
    options = parser.parse_args()
    if unknown := set(options.names) - set(DRAWS):
        parser.error(f"no such checkpoint: {', '.join(sorted(unknown))}")
    for name in options.names or DRAWS:
        draw, seed, cache = DRAWS[name], options.seed, options.cache
        count = write(options.folder / name, islice(draw("test", seed, cache), options.clips))
        write(options.folder / "calibration" / name, islice(draw("dev", seed, cache), CALIBRATION_CLIPS))
        Console().print(f"{options.folder / name}: {count} clips")


if __name__ == "__main__":
    main()
