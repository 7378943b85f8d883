from __future__ import annotations

from typing import Any

import pytest
from transformers import GenerationConfig

from engines.manifest import Search
from export.errors import CheckpointError, ExportError, UnsupportedError
from export.search import HONOURED, IGNORED, NEUTRAL, eos_tokens, pad_token, search_of, start_token

SIZE, POSITIONS = 40, 1000


def search(**settings: Any) -> Search:
    return search_of(GenerationConfig(**settings), SIZE, POSITIONS)


def test_without_settings_a_text_has_twenty_tokens_behind_its_start_as_in_transformers() -> None:
    assert search() == Search(max_length=21)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"max_length": 30}, {"max_length": 30}),
        ({"max_new_tokens": 30}, {"max_length": 31}),
        ({"max_new_tokens": 30, "max_length": 7}, {"max_length": 31}),
        ({"min_length": 3}, {"min_length": 3}),
        ({"min_new_tokens": 3, "min_length": 9}, {"min_length": 4}),
        ({"num_beams": 4, "length_penalty": 0.6, "early_stopping": True}, None),
        ({"num_beams": 4, "length_penalty": -1.0, "early_stopping": "never"}, None),
        ({"do_sample": True, "temperature": 0.7, "top_k": 0, "top_p": 0.9}, None),
        ({"repetition_penalty": 1.3, "no_repeat_ngram_size": 3}, None),
        ({"suppress_tokens": [3, 5, 4000], "begin_suppress_tokens": [6]}, {"suppress_tokens": (3, 5)}),
        ({"forced_bos_token_id": 4, "forced_eos_token_id": [2]}, {"forced_eos_token_id": 2}),
    ],
)
def test_settings_that_are_honoured(settings: dict[str, Any], expected: dict[str, Any] | None) -> None:
    found = search(**settings)
    for name, value in (settings if expected is None else expected).items():
        assert getattr(found, name) == value


def test_a_text_ends_where_the_decoder_s_positions_do() -> None:
    assert search(max_length=5000).max_length == POSITIONS + 1


@pytest.mark.parametrize(
    "settings",
    [
        {"num_beam_groups": 2},
        {"penalty_alpha": 0.6},
        {"typical_p": 0.9},
        {"eta_cutoff": 1e-3},
        {"epsilon_cutoff": 1e-3},
        {"min_p": 0.1},
        {"top_h": 0.4},
        {"bad_words_ids": [[5]]},
        {"sequence_bias": [[[5], -1.0]]},
        {"encoder_repetition_penalty": 1.2},
        {"encoder_no_repeat_ngram_size": 2},
        {"guidance_scale": 3.0},
        {"exponential_decay_length_penalty": (3, 1.1)},
        {"renormalize_logits": True},
        {"remove_invalid_values": True},
        {"watermarking_config": {"greenlist_ratio": 0.3}},
        {"prompt_lookup_num_tokens": 3},
        {"assistant_early_exit": 2},
        {"dola_layers": "low"},
        {"constraints": [1]},
        {"force_words_ids": [[3]]},
        {"stop_strings": ["x"]},
        {"max_time": 3.0},
        {"num_return_sequences": 2, "num_beams": 2},
        {"token_healing": True},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_settings_that_are_not_honoured_are_refused_by_name(settings: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedError, match=next(iter(settings))):
        search(**settings)


def test_every_setting_of_transformers_is_honoured_ignored_or_refused() -> None:
    """A setting that a new version adds is refused until somebody has looked at it."""
    assert not HONOURED & IGNORED
    assert not NEUTRAL.keys() & (HONOURED | IGNORED)
    known = set(vars(GenerationConfig()))
    assert known >= HONOURED | NEUTRAL.keys()
    for name in known - HONOURED - IGNORED:
        if not name.startswith("_"):
            config = GenerationConfig()
            setattr(config, name, 7)
            with pytest.raises(UnsupportedError, match=name):
                search_of(config, SIZE, POSITIONS)


@pytest.mark.parametrize("name", sorted(NEUTRAL))
def test_the_values_that_change_nothing_are_taken(name: str) -> None:
    config = GenerationConfig()
    setattr(config, name, NEUTRAL[name])
    assert search_of(config, SIZE, POSITIONS) == search()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_length", 0),
        ("max_length", "many"),
        ("max_length", True),
        ("min_length", -1),
        ("max_new_tokens", 2.5),
        ("num_beams", 0),
        ("num_beams", "four"),
        ("temperature", 0.0),
        ("temperature", float("nan")),
        ("length_penalty", float("inf")),
        ("top_p", 1.5),
        ("top_k", -1),
        ("early_stopping", "soon"),
        ("repetition_penalty", -1.0),
        ("suppress_tokens", "3"),
        ("suppress_tokens", [-1]),
        ("forced_bos_token_id", SIZE),
        ("forced_eos_token_id", -2),
    ],
)
def test_values_that_have_no_meaning_are_named(name: str, value: Any) -> None:
    config = GenerationConfig()
    setattr(config, name, value)
    with pytest.raises(CheckpointError, match=name):
        search_of(config, SIZE, POSITIONS)


def test_special_tokens() -> None:
    config = GenerationConfig(decoder_start_token_id=3, bos_token_id=1, eos_token_id=[2, 5], pad_token_id=0)
    assert (start_token(config, SIZE), eos_tokens(config, SIZE), pad_token(config, SIZE)) == (3, (2, 5), 0)
    config = GenerationConfig(bos_token_id=1, eos_token_id=2)
    assert (start_token(config, SIZE), eos_tokens(config, SIZE), pad_token(config, SIZE)) == (1, (2,), 2)
    config = GenerationConfig(bos_token_id=1)
    assert (eos_tokens(config, SIZE), pad_token(config, SIZE)) == ((), 0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "neither decoder_start_token_id nor bos_token_id"),
        ({"decoder_start_token_id": SIZE}, "none of the 40 tokens"),
        ({"decoder_start_token_id": [1, 2]}, "one token"),
        ({"bos_token_id": "one"}, "must hold token ids"),
    ],
)
def test_a_start_that_is_none_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        start_token(GenerationConfig(**settings), SIZE)
