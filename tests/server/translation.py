"""A tiny checkpoint that writes texts, and what `generate` of transformers writes with it about one clip."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoFeatureExtractor, PreTrainedTokenizerFast, SpeechEncoderDecoderModel

from tests.zoo.speech_encoder_decoder import VOCABULARY, decoder_config, write, write_text_tokenizer

LANGUAGES = {"de_DE": VOCABULARY, "fr_XX": VOCABULARY + 1}


def write_translator(folder: Path) -> Path:
    """Write a checkpoint whose texts differ by clip; they seldom end by themselves."""
    shape = {"max_position_embeddings": 600, "tie_word_embeddings": False}
    decoder = decoder_config("mbart", **shape) | {"vocab_size": VOCABULARY + len(LANGUAGES)}
    write(folder, "SpeechEncoderDecoderModel", seed=4, decoder=decoder, generation={"max_length": 24})
    model: Any = SpeechEncoderDecoderModel.from_pretrained(folder)
    torch.manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.decoder.named_parameters():
            scale = 0.8 if "embed" in name or "encoder_attn" in name else 0.3
            parameter.add_(scale * torch.randn(parameter.shape))
    model.save_pretrained(folder)
    write_text_tokenizer(folder, VOCABULARY)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": list(LANGUAGES)})
    tokenizer.save_pretrained(folder)
    return folder


class Translator:
    """The checkpoint in transformers."""

    def __init__(self, folder: Path) -> None:
        self._model: Any = SpeechEncoderDecoderModel.from_pretrained(folder).eval()
        self._extract: Any = AutoFeatureExtractor.from_pretrained(folder)
        self.tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(folder)

    def __call__(self, clip: NDArray[np.float32], **options: Any) -> list[str]:
        """Return the texts of a clip, best first."""
        return [self.tokenizer.decode(row, skip_special_tokens=True) for row in self.tokens(clip, **options)]

    def tokens(self, clip: NDArray[np.float32], **options: Any) -> list[list[int]]:
        """Return the tokens of each text."""
        inputs = self._extract(clip, sampling_rate=16_000, return_tensors="pt")
        found: list[list[int]] = self._model.generate(inputs["input_values"], **options).tolist()
        return found
