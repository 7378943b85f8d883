"""Make the recordings that people try the demonstration with: `python -m demo.recordings`.

Everything is taken from the tests, that is voices, sentences and seeds that no training clip has, and is chosen to be
what the stored checkpoints get right: a first try should show what a right answer looks like. How often they are wrong
stands in the cards.

`audio/` holds commands, with what is said (`.txt`) and, where there is one, its translation (`.de.txt`); `audio/words`
single words; `audio/sounds` sound events.
"""

import argparse
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import torch
from rich.console import Console
from safetensors.torch import load_file
from transformers import (
    ASTFeatureExtractor,
    ASTForAudioClassification,
    Gemma3nAudioEncoder,
    HubertForCTC,
    HubertForSequenceClassification,
    PreTrainedTokenizerFast,
    SEWForSequenceClassification,
    SpeechEncoderDecoderModel,
)
from transformers.utils.logging import disable_progress_bar

from demo.classifier import classify
from demo.german import translate as german_of
from demo.sentences import INTENTS
from demo.sounds import sounds
from demo.speech import SAMPLE_RATE, Clip, synthesise
from demo.store import load
from demo.tasks import commands, events, intent, transcribe, translate, words
from demo.train import CACHE
from demo.words import label_of, synthesise_words

AUDIO = Path(__file__).parent / "audio"
# One of every intent and more, of all the voices of the test, and one of small talk.
SENTENCES = {
    "add-half-hour": "add half an hour to the timer",
    "change-alarm-twelve": "change my alarm to twelve thirty",
    "messages-sarah": "do i have any messages from sarah",
    "need-four-bottles": "we need four bottles of bananas",
    "number-four-point": "the number is four point nine four",
    "pause-music-six": "pause the music for six hours",
    "right-after-library": "turn right after the library",
    "switch-lamp-garage": "switch on the lamp in the garage",
    "too-bright-bedroom": "it's too bright in the bedroom",
    "warm-tomorrow-morning": "how warm will it be tomorrow morning",
    "write-george-airport": "write to george that i am at the airport",
    "yellow-car-red": "she has a yellow car and a red house",
}
SPOKEN_WORDS = ("yes", "no", "left", "right", "stop", "louder", "seven", "coffee")
console = Console()


def write(name: str, waveform: np.ndarray, **texts: str) -> None:
    """Write `waveform` int16 or float32 [samples] as `name`.flac, and each of `texts` as `name`.KEY."""
    file = AUDIO / f"{name}.flac"
    file.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(file, waveform, SAMPLE_RATE, subtype="PCM_16")
    for ending, text in texts.items():
        file.with_suffix("." + ending.replace("_", ".")).write_text(text + "\n")
    console.print(f"{file.relative_to(AUDIO)}  {len(waveform) / SAMPLE_RATE:.1f} s  {' | '.join(texts.values())}")


def sentence_recordings(seed: int, cache: Path) -> None:
    """Write the commands; raises ValueError where a checkpoint gets one wrong, which then has to be exchanged."""
    speech = synthesise("test", 0, seed, cache)
    ctc, named = load(HubertForCTC, transcribe.FOLDER), load(HubertForSequenceClassification, intent.FOLDER)
    german = load(SpeechEncoderDecoderModel, translate.FOLDER)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(translate.FOLDER)
    clips = {clip.text: clip for clip in speech.clips}
    for name, text in SENTENCES.items():
        clip = clips[text]
        waveform, translation = speech.waveform(clip), german_of(text)
        answers = {transcribe.transcribe(ctc, waveform): text}
        if clip.intent in INTENTS:
            answers[classify(named, waveform)] = clip.intent
        if translation is not None:
            answers[translate.interpret(german, tokenizer, waveform)] = translation
        if wrong := [f"{answer!r} for {right!r}" for answer, right in answers.items() if answer != right]:
            raise ValueError(f"{name}: {', '.join(wrong)}")
        audio = speech.audio[clip.start : clip.start + clip.samples]
        write(name, audio, txt=text, **({} if translation is None else {"de_txt": translation}))


def word_recordings(seed: int, cache: Path) -> None:
    """Write words that the command classifier and the probe of the embeddings name, in as many voices."""
    speech, model = synthesise_words("test", seed, cache), load(SEWForSequenceClassification, commands.FOLDER)
    encoder, probe = load(Gemma3nAudioEncoder, words.FOLDER), load_file(words.PROBE)
    voices: Counter[str] = Counter()

    def right(clip: Clip) -> bool:
        vector = words.embed(encoder, speech.waveform(clip))
        return classify(model, speech.waveform(clip)) == label_of(clip) and words.named(vector, probe) == clip.text

    for word in SPOKEN_WORDS:
        said = sorted((clip for clip in speech.clips if clip.text == word), key=lambda clip: voices[clip.voice.variant])
        clip = next(filter(right, said))
        voices[clip.voice.variant] += 1
        write(f"words/{word}", speech.audio[clip.start : clip.start + clip.samples], txt=word)


def sound_recordings(seed: int, cache: Path) -> None:
    """Write one sound of each kind."""
    model, features = load(ASTForAudioClassification, events.FOLDER), ASTFeatureExtractor.from_pretrained(events.FOLDER)
    done: set[str] = set()
    for waveform, event in sounds("test", 5, synthesise("test", 0, seed, cache)):
        if event not in done and events.name_event(model, features, waveform) == event:
            done.add(event)
            write(f"sounds/{event}", waveform, txt=event)


def main() -> None:
    """Write all recordings anew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--cache", type=Path, default=CACHE)
    options = parser.parse_args()
    disable_progress_bar()
    torch.set_num_threads(1)
    makers: tuple[Callable[[int, Path], None], ...] = (sentence_recordings, word_recordings, sound_recordings)
    for make in makers:
        make(options.seed, options.cache)


if __name__ == "__main__":
    main()
