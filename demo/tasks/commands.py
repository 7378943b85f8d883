"""`sew-commands-english`: one spoken command word or `unknown`, a `SEWForSequenceClassification`."""

from pathlib import Path

from transformers import HubertForCTC, SEWConfig, SEWForSequenceClassification

from demo.augment import batches
from demo.classifier import classify, cross_entropy_of
from demo.hubert import classes, front_config, warm_start, waveform_extractor, without_input_gradient
from demo.measure import Row, accuracy_rows, exact
from demo.speech import Clip
from demo.store import CHECKPOINTS, load, save, size_row
from demo.tasks import transcribe
from demo.training import Options, Recipe
from demo.words import COMMAND_LABELS, COMMANDS, UNKNOWN, WORDS, label_of, other_words, synthesise_words

FOLDER = CHECKPOINTS / "sew-commands-english"
MARGIN_SECONDS = 0.8


def new(ctc: HubertForCTC) -> SEWForSequenceClassification:
    """Build a classifier that starts from the convolutions of a trained `ctc` and squeezes their frames in pairs."""
    config = SEWConfig(
        **front_config(),
        **classes(COMMAND_LABELS),
        hidden_size=112,
        squeeze_factor=2,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=256,
        classifier_proj_size=64,
        initializer_range=0.05,
    )
    model = SEWForSequenceClassification(config)
    warm_start(model.sew, ctc.hubert, "feature_extractor")
    return model


def recipe(options: Options) -> Recipe[SEWForSequenceClassification, Clip]:
    """Words from speech, each somewhere in up to a second of noise."""
    speech, dev = (synthesise_words(split, options.seed, options.cache) for split in ("train", "dev"))
    model = new(load(HubertForCTC, transcribe.FOLDER))
    without_input_gradient(model.sew)

    def score(candidate: SEWForSequenceClassification) -> float:
        return sum(classify(candidate, dev.waveform(clip)) != label_of(clip) for clip in dev.clips) / len(dev.clips)

    return Recipe(
        model,
        lambda: batches(speech, speech.clips, options.batch_seconds, options.seed, MARGIN_SECONDS),
        cross_entropy_of(model, COMMAND_LABELS, label_of),
        score,
        lambda kept: save(kept, FOLDER, waveform_extractor()),
    )


def figures(seed: int, cache: Path) -> list[Row]:
    """Measure the stored checkpoint on held-out voices, clean and in noise, and how well `unknown` is told."""
    speech = synthesise_words("test", seed, cache)
    model = load(SEWForSequenceClassification, FOLDER)
    asked = [(clip, label_of(clip)) for clip in speech.clips]
    what = f"top-1 accuracy of {len(COMMANDS)} commands and unknown"
    rows, clean = accuracy_rows(what, speech, asked, lambda waveform: classify(model, waveform))
    known = {word for split in ("train", "dev") for word in other_words(split)} | set(WORDS)
    groups = {
        "commands": [item for item in clean if item.right != UNKNOWN],
        "unknown words that training has as unknown": [
            item for item in clean if item.right == UNKNOWN and item.clip.text in known
        ],
        "unknown words that training has not": [item for item in clean if item.clip.text not in known],
    }
    rows += [(f"of these, {name}, clean ({len(items)})", f"{exact(items):.1%}") for name, items in groups.items()]
    return [*rows, size_row(model, FOLDER)]
