"""`hubert-translate-english-german`: German from spoken English commands, a small `SpeechEncoderDecoderModel`.

The encoder starts as the transcriber's; the decoder is a two-layer mBART over byte pairs of the grammar's German.
"""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch.nn.functional import cross_entropy
from transformers import (
    GenerationConfig,
    HubertForCTC,
    MBartConfig,
    MBartForCausalLM,
    PreTrainedTokenizerFast,
    SpeechEncoderDecoderModel,
)

from demo.augment import batches, normalise
from demo.german import translate
from demo.hubert import HIDDEN, waveform_extractor, without_input_gradient
from demo.measure import Row, accuracy_rows, exact, listen, words_wrong
from demo.sentences import INTENTS, TEMPLATES, expand, fillings
from demo.speech import Clip, Speech, held_out, recorded, synthesise, with_prosody
from demo.store import CHECKPOINTS, load, save, size_row
from demo.tasks import transcribe
from demo.training import Options, Recipe
from demo.voices import draw_training_voice

FOLDER = CHECKPOINTS / "hubert-translate-english-german"
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
BOS, PAD, EOS = 0, 1, 2
MAX_TOKENS = 48
FROZEN_SHARE = 0.25  # of the training, while the decoder learns to listen
COMMANDS = 16000  # training clips
FEW = 12  # sentences of a template, of which the draw of the test leaves hardly any
RARE = 150  # byte pairs that come less often stay apart, so that rare numbers are made of the common ones


def new_tokenizer(sentences: list[str]) -> PreTrainedTokenizerFast:
    """Learn byte pairs within words; a space is ▁, and </s> ends every sentence."""
    tokenizer = Tokenizer(models.BPE(unk_token=SPECIAL[-1]))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=1000, min_frequency=RARE, special_tokens=list(SPECIAL), show_progress=False
    )
    tokenizer.train_from_iterator(sentences, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", EOS)])
    names = dict(zip(("bos_token", "pad_token", "eos_token", "unk_token"), SPECIAL, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def new(ctc: HubertForCTC, tokens: int) -> SpeechEncoderDecoderModel:
    """Join the encoder of a trained `ctc` to an untrained decoder of `tokens` symbols."""
    config = MBartConfig(
        vocab_size=tokens,
        d_model=HIDDEN,
        decoder_layers=2,
        decoder_attention_heads=4,
        decoder_ffn_dim=336,
        max_position_embeddings=MAX_TOKENS + 16,
        dropout=0.0,
        attention_dropout=0.0,
        activation_dropout=0.0,
        init_std=0.05,
        scale_embedding=True,
        is_decoder=True,
        bos_token_id=BOS,
        pad_token_id=PAD,
        eos_token_id=EOS,
    )
    model = SpeechEncoderDecoderModel(encoder=ctc.hubert, decoder=MBartForCausalLM(config))
    decoder: Any = model.config.decoder
    decoder.add_cross_attention = True
    model.config.decoder_start_token_id, model.config.pad_token_id, model.config.eos_token_id = BOS, PAD, EOS
    model.generation_config = GenerationConfig(
        max_length=MAX_TOKENS,
        decoder_start_token_id=BOS,
        bos_token_id=BOS,
        pad_token_id=PAD,
        eos_token_id=EOS,
        num_beams=1,
    )
    return model


@torch.inference_mode()
def interpret(
    model: SpeechEncoderDecoderModel, tokenizer: PreTrainedTokenizerFast, waveform: np.ndarray, beams: int = 1
) -> str:
    """Say in German what `model` hears in `waveform` float32 [samples]."""
    generator: Any = model
    tokens = generator.generate(torch.from_numpy(normalise(waveform))[None], num_beams=beams)
    return str(tokenizer.decode(tokens[0], skip_special_tokens=True))


def translated(clips: list[Clip]) -> list[tuple[Clip, str]]:
    """Pair the clips that have a translation with it."""
    return [(clip, german) for clip in clips if (german := translate(clip.text)) is not None]


def texts(count: int, seed: int) -> list[tuple[str, str]]:
    """Draw `count` training commands that have a translation, with their intents: every template equally often.

    Sentences that are held out are left out, but for those of templates with fewer than `FEW`: the test has most of
    these, and nobody translates a phrase like "turn the music up" who has never met it.
    """
    rng = random.Random(f"commands {seed}")
    without = held_out(seed)
    templates = [(template, intent) for intent in INTENTS for template in TEMPLATES[intent]]
    labels: list[tuple[str, str]] = []
    while len(labels) < count:
        template, intent = rng.choice(templates)
        text = expand(template, rng)
        if translate(text) is not None and (text not in without or fillings(template) < FEW):
            labels.append((text, intent))
    return labels


def commands(seed: int, cache: Path) -> Speech:
    """Speak the training commands in training voices."""
    rng, labels = random.Random(f"speak commands {seed}"), texts(COMMANDS, seed)
    spoken = [(with_prosody(text, rng), draw_training_voice(rng)) for text, _ in labels]
    return recorded(f"commands-{seed}", spoken, labels, cache)


def padded(rows: list[list[int]]) -> torch.Tensor:
    """Token numbers int64 [rows, longest], -100 where a row has ended."""
    longest = max(map(len, rows))
    return torch.tensor([row + [-100] * (longest - len(row)) for row in rows])


def recipe(options: Options) -> Recipe[SpeechEncoderDecoderModel, Clip]:
    """German tokens from speech: the decoder alone at first, then everything."""
    speech = commands(options.seed, options.cache)
    dev = synthesise("dev", 0, options.seed, options.cache)
    pairs, asked = translated(speech.clips), translated(dev.clips)
    german = {clip.text: text for clip, text in pairs}
    if options.resume:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(FOLDER)
        model = load(SpeechEncoderDecoderModel, FOLDER)
    else:
        tokenizer = new_tokenizer([text for _, text in pairs])
        model = new(load(HubertForCTC, transcribe.FOLDER), len(tokenizer))
    without_input_gradient(model.encoder)
    tokens = {english: tokenizer(text)["input_ids"] for english, text in german.items()}

    def loss(rows: torch.Tensor, clips: list[Clip], progress: float) -> torch.Tensor:
        with torch.set_grad_enabled(options.resume or progress > FROZEN_SHARE):
            states = model.encoder(rows).last_hidden_state
        labels = padded([tokens[clip.text] for clip in clips])
        logits = model(encoder_outputs=(states,), labels=labels).logits
        return cross_entropy(logits.flatten(0, 1), labels.flatten(), label_smoothing=0.1)

    def score(candidate: SpeechEncoderDecoderModel) -> float:
        wrong = [interpret(candidate, tokenizer, dev.waveform(clip)) != text for clip, text in asked]
        return sum(wrong) / len(wrong)

    def rows() -> Iterator[tuple[np.ndarray, list[Clip]]]:
        return batches(speech, [clip for clip, _ in pairs], options.batch_seconds, options.seed + options.resume)

    return Recipe(model, rows, loss, score, lambda kept: save(kept, FOLDER, waveform_extractor(), tokenizer))


def figures(seed: int, cache: Path) -> list[Row]:
    """Measure the stored checkpoint on the held-out sentences that have a translation, clean and in noise."""
    speech = synthesise("test", 0, seed, cache)
    model = load(SpeechEncoderDecoderModel, FOLDER)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(FOLDER)
    asked = translated(speech.clips)
    rows, clean = accuracy_rows(
        "translations exact to the letter, greedy", speech, asked, lambda row: interpret(model, tokenizer, row)
    )
    beamed = listen(speech, asked, lambda row: interpret(model, tokenizer, row, beams=4))
    met = {text for text, _ in texts(COMMANDS, seed)}
    new = [item for item in clean if item.clip.text not in met]
    return [
        *rows,
        (f"of these, sentences that training has in no voice, greedy, clean ({len(new)} clips)", f"{exact(new):.1%}"),
        ("translations exact to the letter, four beams, clean", f"{exact(beamed):.1%}"),
        ("word error rate against the translation, greedy, clean", f"{words_wrong(clean):.2%}"),
        size_row(model, FOLDER),
    ]
