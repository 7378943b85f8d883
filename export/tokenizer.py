"""A checkpoint's tokenizer -> the one file that turns tokens into text without transformers."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from tokenizers import Tokenizer
from transformers.convert_slow_tokenizer import convert_slow_tokenizer

from export.checkpoint import Checkpoint
from export.errors import CheckpointError, UnsupportedError

NAME = "tokenizer.json"
# How many texts of random tokens, of up to so many, are compared with what the checkpoint's own tokenizer writes.
TRIALS, TRIAL_TOKENS = 1000, 24
# `en_XX` of mBART-50, `eng_Latn` of NLLB, `__en__` of M2M100.
LANGUAGE = re.compile(r"(?:([a-z]{2,3}_[A-Z][A-Za-z]{1,3})|__([a-z]{2,3})__)")


@dataclass(frozen=True)
class Text:
    """How tokens become text."""

    content: bytes  # of tokenizer.json
    skipped: tuple[int, ...]  # special tokens
    clean_up_spaces: bool
    languages: dict[str, int]

    @property
    def sha256(self) -> str:
        """The hash of the file."""
        return hashlib.sha256(self.content).hexdigest()


def text_of(checkpoint: Checkpoint, vocabulary_size: int) -> Text:
    """Return how the checkpoint's tokenizer writes the tokens of a decoder.

    What is not in the format of the `tokenizers` library is converted, and all is compared with the original on random
    tokens. Raises CheckpointError where it cannot be read, UnsupportedError where it cannot be converted, or does not
    write the same.
    """
    original = checkpoint.tokenizer()
    name = f"{checkpoint.source}: {type(original).__name__}"
    try:
        backend = original.backend_tokenizer if original.is_fast else convert_slow_tokenizer(original)
    except Exception as error:  # converters raise whatever their files make them
        raise UnsupportedError(f"{name} cannot be converted into a {NAME} ({error})") from None
    content = backend.to_str(pretty=False)
    special = {index for index, token in original.added_tokens_decoder.items() if token.special}
    special |= set(original.all_special_ids)
    if len(original) <= len(special):  # transformers makes an empty one of no files
        raise CheckpointError(f"{name} knows special tokens only: its vocabulary is missing from the checkpoint")
    text = Text(
        content=content.encode(),
        skipped=tuple(sorted(index for index in special if index < vocabulary_size)),
        clean_up_spaces=_cleans_up(original, backend),
        languages=_languages(original, vocabulary_size),
    )
    _compare(text, original, vocabulary_size, name)
    return text


def _cleans_up(original: Any, backend: Tokenizer) -> bool:
    """Whether transformers removes spaces before punctuation: not from what byte pairs spell, unless told twice."""
    twice = getattr(original, "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output", False)
    spells = original.is_fast and type(backend.model).__name__ == "BPE"
    return bool(original.clean_up_tokenization_spaces) and (not spells or bool(twice))


def _languages(original: Any, vocabulary_size: int) -> dict[str, int]:
    """Return the token of each language that the tokenizer knows."""
    named = getattr(original, "lang_code_to_id", None)
    if not isinstance(named, dict):
        special = {token.content: index for index, token in original.added_tokens_decoder.items() if token.special}
        matches = {token: LANGUAGE.fullmatch(token) for token in special}
        named = {match[1] or match[2]: special[token] for token, match in matches.items() if match}
    return {str(code): index for code, index in sorted(named.items()) if 0 <= index < vocabulary_size}


def _compare(text: Text, original: Any, vocabulary_size: int, name: str) -> None:
    """Raise UnsupportedError where the file writes something else than the original."""
    converted, skipped = Tokenizer.from_str(text.content.decode()), set(text.skipped)
    generator = np.random.default_rng(22)
    for trial in range(TRIALS):
        ids = generator.integers(0, vocabulary_size, trial % TRIAL_TOKENS + 1).tolist()
        expected = original.decode(ids, skip_special_tokens=True)
        found = converted.decode([index for index in ids if index not in skipped])
        if text.clean_up_spaces:
            found = original.clean_up_tokenization(found)
        if found != expected:
            raise UnsupportedError(
                f"{name} cannot be converted into a {NAME}: for the tokens {ids} that writes {found!r}, "
                f"not {expected!r}"
            )
