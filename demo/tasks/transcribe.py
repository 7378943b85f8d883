"""`hubert-ctc-english`: letters from spoken commands, a small `HubertForCTC` trained from scratch."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch.nn.functional import ctc_loss
from transformers import HubertForCTC, Wav2Vec2CTCTokenizer

from demo.augment import batches, normalise
from demo.hubert import gabor_filters, hubert_config, waveform_extractor, without_input_gradient
from demo.measure import NOISES, Row, by_voice, error_rate, exact, interval, listen, words_wrong
from demo.speech import Clip, synthesise
from demo.store import CHECKPOINTS, load, save, size_row
from demo.training import Options, Recipe
from demo.voices import TEST_WOMEN

FOLDER = CHECKPOINTS / "hubert-ctc-english"
SYMBOLS = ("<pad>", "<unk>", "|", "'", *"abcdefghijklmnopqrstuvwxyz")


def new() -> HubertForCTC:
    """Build an untrained network whose first convolution is a filter bank; <pad> is the blank."""
    letters = {"vocab_size": len(SYMBOLS), "ctc_loss_reduction": "mean", "ctc_zero_infinity": True}
    model = HubertForCTC(hubert_config(layers=4, **letters))
    with torch.no_grad():
        first = model.get_parameter("hubert.feature_extractor.conv_layers.0.conv.weight")
        first.copy_(gabor_filters(first.shape[0], first.shape[2]))
    return model


def encode(text: str) -> list[int]:
    """`text` as symbol numbers, spaces as |."""
    return [SYMBOLS.index("|" if letter == " " else letter) for letter in text]


def greedy(logits: torch.Tensor) -> str:
    """Text of the likeliest path through `logits` [frames, symbols]: repeats merged, blanks dropped."""
    path = torch.unique_consecutive(logits.argmax(-1)).tolist()
    return " ".join("".join(SYMBOLS[index] for index in path if index > 1).replace("|", " ").split())


@torch.inference_mode()
def transcribe(model: HubertForCTC, waveform: np.ndarray) -> str:
    """Write down what `model` hears in `waveform` float32 [samples]."""
    return greedy(model(torch.from_numpy(normalise(waveform))[None]).logits[0])


def keep(model: HubertForCTC) -> None:
    """Write the checkpoint with its feature extractor and tokenizer."""
    with TemporaryDirectory() as scratch:
        vocabulary = Path(scratch) / "vocab.json"
        vocabulary.write_text(json.dumps({symbol: index for index, symbol in enumerate(SYMBOLS)}))
        tokenizer = Wav2Vec2CTCTokenizer(str(vocabulary), bos_token=None, eos_token=None)
        save(model, FOLDER, waveform_extractor(), tokenizer)


def recipe(options: Options) -> Recipe[HubertForCTC, Clip]:
    """Letters from speech: CTC over whole recordings, so without a mask."""
    speech, dev = (synthesise(split, options.clips, options.seed, options.cache) for split in ("train", "dev"))
    model = load(HubertForCTC, FOLDER) if options.resume else new()
    without_input_gradient(model.hubert)

    def loss(rows: torch.Tensor, clips: list[Clip], _progress: float) -> torch.Tensor:
        scores = model(rows).logits.log_softmax(-1).transpose(0, 1)
        labels = [encode(clip.text) for clip in clips]
        symbols = torch.tensor([symbol for label in labels for symbol in label])
        frames = torch.full((len(clips),), scores.shape[0])
        lengths = torch.tensor([len(label) for label in labels])
        return ctc_loss(scores, symbols, frames, lengths, zero_infinity=True)

    def score(candidate: HubertForCTC) -> float:
        return error_rate([(clip.text, transcribe(candidate, dev.waveform(clip))) for clip in dev.clips])

    seed = options.seed + options.resume
    return Recipe(model, lambda: batches(speech, speech.clips, options.batch_seconds, seed), loss, score, keep)


def figures(seed: int, cache: Path) -> list[Row]:
    """Measure the stored checkpoint on the held-out sentences, clean and in noise, and on words in random order."""
    speech, shuffled = (synthesise(split, 0, seed, cache) for split in ("test", "test-random"))
    model = load(HubertForCTC, FOLDER)

    def answer(waveform: np.ndarray) -> str:
        return transcribe(model, waveform)

    asked = [(clip, clip.text) for clip in speech.clips]
    clean, pink, chatter = (listen(speech, asked, answer, noise) for noise in NOISES)
    random_words = listen(shuffled, [(clip, clip.text) for clip in shuffled.clips], answer)
    women = [item for item in clean if item.clip.voice.variant in TEST_WOMEN]
    men = [item for item in clean if item.clip.voice.variant not in TEST_WOMEN]
    letters = error_rate([(item.right, item.answer) for item in clean], letters=True)
    return [
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
        ("word error rate, clean, voice by voice", by_voice(clean, words_wrong)),
        ("letter error rate, clean", f"{letters:.2%}"),
        ("sentences without any error, clean", f"{exact(clean):.1%}"),
        size_row(model, FOLDER),
    ]
