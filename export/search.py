"""How a checkpoint wants its tokens chosen: generation_config.json -> `Search`."""

from __future__ import annotations

import math
from typing import Any

from pydantic import ValidationError
from transformers import GenerationConfig

from engines.manifest import Search
from export.errors import CheckpointError, UnsupportedError

FILE = "generation_config.json (or config.json, where that has such settings)"
# Settings that `Search` has under the same names, and all that are honoured.
SAME = set(Search.model_fields) - {"max_length", "min_length"}
HONOURED = SAME | {"max_length", "max_new_tokens", "min_length", "min_new_tokens"}
HONOURED |= {"bos_token_id", "decoder_start_token_id", "eos_token_id", "pad_token_id"}
# These change in what form `generate` of transformers 5 returns its tokens, or how fast it finds them, and no token; or
# they have a meaning only beside another setting, which is refused.
IGNORED = {
    "assistant_confidence_threshold",
    "assistant_lookbehind",
    "cache_config",
    "cache_implementation",
    "compile_config",
    "continuous_batching_config",
    "disable_compile",
    "diversity_penalty",
    "low_memory",
    "max_cache_len",
    "max_matching_ngram_size",
    "num_assistant_tokens",
    "num_assistant_tokens_schedule",
    "output_attentions",
    "output_hidden_states",
    "output_logits",
    "output_scores",
    "prefill_chunk_size",
    "return_dict_in_generate",
    "speculation_type",
    "target_lookbehind",
    "transformers_version",
    "use_cache",
}
# Beside None and False, the values of other settings that change nothing.
NEUTRAL: dict[str, float] = {
    "encoder_no_repeat_ngram_size": 0,
    "encoder_repetition_penalty": 1,
    "epsilon_cutoff": 0,
    "eta_cutoff": 0,
    "guidance_scale": 1,
    "min_p": 0,
    "num_beam_groups": 1,
    "num_return_sequences": 1,
    "penalty_alpha": 0,
    "typical_p": 1,
}
# What `generate` takes where nothing says how long a text may be: so many tokens behind the start token.
DEFAULT_NEW_TOKENS = 20


def search_of(config: GenerationConfig, vocabulary_size: int, max_positions: int) -> Search:
    """Return what `generate` does with `config` where it is given nothing else.

    The length is bounded by the decoder's positions, beyond which transformers fails. Raises UnsupportedError that
    names a setting that is not honoured, CheckpointError for a value that cannot be.
    """
    settings = config.to_dict()
    for name in sorted(vars(GenerationConfig())):
        value = settings.get(name)
        if name in HONOURED | IGNORED or name.startswith("_"):
            continue
        if value is not None and value is not False and value != NEUTRAL.get(name):
            raise UnsupportedError(
                f"{FILE}: {name} is {value!r}, which Sonant does not do: remove it, or export with its default, "
                "if other texts than with it are welcome"
            )
    chosen = {name: settings[name] for name in SAME if settings.get(name) is not None}
    for name in ("suppress_tokens", "begin_suppress_tokens"):  # an id beyond the vocabulary suppresses nothing
        if name in chosen:
            chosen[name] = [token for token in tokens(name, chosen[name]) if token < vocabulary_size]
    for name in ("forced_bos_token_id", "forced_eos_token_id"):
        if name in chosen:
            chosen[name] = single(name, chosen[name], vocabulary_size)
    try:
        search = Search(
            max_length=min(_length(settings, "max", DEFAULT_NEW_TOKENS + 1), max_positions + 1),
            min_length=_length(settings, "min", 0),
            **chosen,
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise CheckpointError(f"{FILE}: {first['loc'][0]} is {first['input']!r}: {first['msg']}") from None
    for name, value in search:
        if isinstance(value, float) and not math.isfinite(value):
            raise CheckpointError(f"{FILE}: {name} is {value}, which is no number")
    return search


def _length(settings: dict[str, Any], which: str, default: int) -> Any:
    """Return the largest or smallest number of tokens, the start token included."""
    new, whole = settings.get(f"{which}_new_tokens"), settings.get(f"{which}_length")
    for name, value in ((f"{which}_new_tokens", new), (f"{which}_length", whole)):
        if value is not None and (type(value) is not int or value < 0):
            raise CheckpointError(f"{FILE}: {name} is {value!r}; it must be a whole number")
    if new is not None:
        return new + 1
    return default if whole is None else whole


def start_token(config: GenerationConfig, vocabulary_size: int) -> int:
    """Return the token that every text begins with."""
    for name in ("decoder_start_token_id", "bos_token_id"):
        token = getattr(config, name)
        if token is not None:
            return single(name, token, vocabulary_size)
    raise CheckpointError(f"{FILE}: neither decoder_start_token_id nor bos_token_id says how a text begins")


def eos_tokens(config: GenerationConfig, vocabulary_size: int) -> tuple[int, ...]:
    """Return the tokens of which each ends a text; none where texts end at their largest length."""
    if config.eos_token_id is None:
        return ()
    ids = tokens("eos_token_id", config.eos_token_id)
    return tuple(single("eos_token_id", each, vocabulary_size) for each in ids)


def pad_token(config: GenerationConfig, vocabulary_size: int) -> int:
    """Return what fills a text behind its end: the first end, or else 0, where nothing is named."""
    if config.pad_token_id is not None:
        return single("pad_token_id", config.pad_token_id, vocabulary_size)
    return next(iter(eos_tokens(config, vocabulary_size)), 0)


def tokens(name: str, value: Any) -> list[int]:
    """Return the ids of a setting that holds one or several."""
    ids = value if isinstance(value, list) else [value]
    if not all(type(each) is int and each >= 0 for each in ids):
        raise CheckpointError(f"{FILE}: {name} is {value!r}; it must hold token ids")
    return ids


def single(name: str, value: Any, vocabulary_size: int) -> int:
    """Return the one id of a setting, which must be one of the vocabulary."""
    ids = tokens(name, value)
    if len(ids) != 1:
        raise UnsupportedError(f"{FILE}: {name} is {value!r}; Sonant takes one token there")
    if ids[0] >= vocabulary_size:
        raise CheckpointError(f"{FILE}: {name} is {ids[0]}, which is none of the {vocabulary_size} tokens")
    return ids[0]
