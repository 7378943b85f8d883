"""`hubert-intent-english`: what a command is about, a `HubertForSequenceClassification` on the transcriber's layers."""

from pathlib import Path

from transformers import HubertForCTC, HubertForSequenceClassification

from demo.augment import batches
from demo.classifier import classify, cross_entropy_of
from demo.hubert import classes, hubert_config, warm_start, waveform_extractor, without_input_gradient
from demo.measure import Row, accuracy_rows
from demo.sentences import INTENTS
from demo.speech import Clip, synthesise
from demo.store import CHECKPOINTS, load, save, size_row
from demo.tasks import transcribe
from demo.training import Options, Recipe

FOLDER = CHECKPOINTS / "hubert-intent-english"


def new(ctc: HubertForCTC) -> HubertForSequenceClassification:
    """Build a classifier that starts from the convolutions and the first two layers of a trained `ctc`."""
    model = HubertForSequenceClassification(hubert_config(layers=2, classifier_proj_size=32, **classes(INTENTS)))
    warm_start(model.hubert, ctc.hubert)
    return model


def intended(clips: list[Clip]) -> list[Clip]:
    """Leave out the sentences that have no intent."""
    return [clip for clip in clips if clip.intent in INTENTS]


def recipe(options: Options) -> Recipe[HubertForSequenceClassification, Clip]:
    """Intents from speech, from the trained letters."""
    speech, dev = (synthesise(split, options.clips, options.seed, options.cache) for split in ("train", "dev"))
    model = new(load(HubertForCTC, transcribe.FOLDER))
    without_input_gradient(model.hubert)
    asked = intended(dev.clips)

    def score(candidate: HubertForSequenceClassification) -> float:
        return sum(classify(candidate, dev.waveform(clip)) != clip.intent for clip in asked) / len(asked)

    return Recipe(
        model,
        lambda: batches(speech, intended(speech.clips), options.batch_seconds, options.seed),
        cross_entropy_of(model, INTENTS, lambda clip: clip.intent),
        score,
        lambda kept: save(kept, FOLDER, waveform_extractor()),
    )


def figures(seed: int, cache: Path) -> list[Row]:
    """Measure the stored checkpoint on the held-out sentences that have an intent, clean and in noise."""
    speech = synthesise("test", 0, seed, cache)
    model = load(HubertForSequenceClassification, FOLDER)
    asked = [(clip, clip.intent) for clip in intended(speech.clips)]
    what = f"top-1 accuracy of {len(INTENTS)} intents"
    rows, _ = accuracy_rows(what, speech, asked, lambda waveform: classify(model, waveform))
    return [*rows, size_row(model, FOLDER)]
