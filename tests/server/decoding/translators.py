"""Tiny decoders with random weights, and what `generate` of transformers writes with them about one clip."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import (
    BartConfig,
    BertConfig,
    GenerationConfig,
    GPT2Config,
    HubertConfig,
    MBartConfig,
    PretrainedConfig,
    SpeechEncoderDecoderConfig,
    SpeechEncoderDecoderModel,
)
from transformers.modeling_outputs import BaseModelOutput

from engines.manifest import Generation, Search
from server.decoding.search import Hypothesis, Plan
from tests.support import SMALL, noise

VOCABULARY = 24
START, EOS, PAD = 1, 2, 0
SIZES: dict[str, Any] = {"vocab_size": VOCABULARY, "pad_token_id": PAD, "bos_token_id": START, "eos_token_id": EOS}
LAYERS: dict[str, Any] = {"decoder_layers": 2, "decoder_attention_heads": 2, "decoder_ffn_dim": 32, "d_model": 16}
CONFIGS: dict[str, Callable[[], PretrainedConfig]] = {
    "bert": lambda: BertConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, is_decoder=True, **SIZES
    ),
    "gpt2": lambda: GPT2Config(n_embd=16, n_layer=2, n_head=2, **SIZES),
    "bart": lambda: BartConfig(is_decoder=True, **LAYERS, **SIZES),
    "mbart": lambda: MBartConfig(is_decoder=True, **LAYERS, **SIZES),
}
# Steps the decoder takes over all beginnings: [rows, length] -> the logits [rows, vocabulary] of what follows.
Step = Callable[[NDArray[np.int64]], NDArray[np.float32]]


@cache
def translator(kind: str, seed: int) -> Any:
    """A SpeechEncoderDecoderModel whose texts differ by clip, and end now and then."""
    torch.manual_seed(seed)
    decoder = CONFIGS[kind]()
    decoder.add_cross_attention = True
    config = SpeechEncoderDecoderConfig.from_encoder_decoder_configs(HubertConfig(**SMALL), decoder)
    config.decoder_start_token_id, config.pad_token_id, config.eos_token_id = START, PAD, EOS
    model = SpeechEncoderDecoderModel(config).eval()
    model.generation_config = (
        GenerationConfig()
    )  # else what Bart's configuration forces would stand where a search has None
    with torch.no_grad():
        for name, parameter in model.decoder.named_parameters():
            parameter.add_((0.8 if "emb" in name or "wte" in name else 0.3) * torch.randn(parameter.shape))
    return model


def generation(search: Search, eos_tokens: tuple[int, ...] = (EOS,)) -> Generation:
    return Generation(
        tokenizer="tokenizer.json",
        tokenizer_sha256="0" * 64,
        layers=2,
        heads=2,
        head_size=8,
        vocabulary_size=VOCABULARY,
        start_token=START,
        eos_tokens=eos_tokens,
        pad_token=PAD,
        skipped=(PAD, START, EOS),
        clean_up_spaces=False,
        search=search,
    )


def reference(
    model: Any, clip: int, search: Search, eos_tokens: tuple[int, ...]
) -> tuple[list[tuple[int, ...]], list[float]]:
    """Return all texts that `generate` finds in a clip, best first, and their scores; none for a single beam."""
    asked = {name: list(value) if isinstance(value, tuple) else value for name, value in search.model_dump().items()}
    for name in ("suppress_tokens", "begin_suppress_tokens"):
        asked[name] = asked[name] or None
    config = GenerationConfig(
        **{
            name: value
            for name, value in asked.items()
            if search.do_sample or name not in ("temperature", "top_k", "top_p")
        },
        num_return_sequences=search.num_beams,
        decoder_start_token_id=START,
        eos_token_id=list(eos_tokens) or None,
        pad_token_id=PAD,
        return_dict_in_generate=True,
        output_scores=True,
    )
    found = model.generate(encoder_outputs=_encoded(model, clip), generation_config=config)
    scores = [] if found.get("sequences_scores") is None else found.sequences_scores.tolist()
    return [_cut(row, eos_tokens) for row in found.sequences[:, 1:].tolist()], scores


def _cut(row: list[int], eos_tokens: tuple[int, ...]) -> tuple[int, ...]:
    """Return `row` up to the token that ends it."""
    ends = [index for index, token in enumerate(row) if token in eos_tokens]
    return tuple(row[: ends[0] + 1] if ends else row)


@torch.no_grad()
def _encoded(model: Any, clip: int) -> Any:
    waveform = torch.from_numpy(noise(3000 + 200 * clip, seed=clip))[None]
    return BaseModelOutput(last_hidden_state=3 * model.encoder(waveform).last_hidden_state)


def stepper(model: Any, clip: int) -> Step:
    encoded = _encoded(model, clip).last_hidden_state
    if model.config.encoder.hidden_size != model.config.decoder.hidden_size:
        with torch.no_grad():
            encoded = model.enc_to_dec_proj(encoded)

    @torch.no_grad()
    def step(written: NDArray[np.int64]) -> NDArray[np.float32]:
        states = encoded.repeat(len(written), 1, 1)
        logits = model.decoder(
            input_ids=torch.from_numpy(written), encoder_hidden_states=states, use_cache=False
        ).logits
        return np.asarray(logits[:, -1].numpy(), np.float32)

    return step


def write(plan: Plan, step: Step) -> list[Hypothesis]:
    """Search to the end, as an engine that follows `parents` would."""
    searcher = plan.begin()
    written = np.zeros((len(searcher.tokens), 0), np.int64)
    for _ in range(1000):
        written = np.concatenate([written[searcher.parents], searcher.tokens[:, None]], axis=1)
        if searcher.advance(step(written)):
            return searcher.hypotheses
    raise AssertionError("it does not end")
