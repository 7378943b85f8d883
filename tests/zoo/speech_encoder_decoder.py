"""Random SpeechEncoderDecoder checkpoints: a speech encoder, a decoder and a tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models
from transformers import (
    AutoConfig,
    PreTrainedTokenizerFast,
    SpeechEncoderDecoderConfig,
    SpeechEncoderDecoderModel,
    Wav2Vec2FeatureExtractor,
)
from transformers.activations import ACT2FN

from tests.support import SMALL, perturb
from tests.zoo import Kind, Specimen
from tests.zoo import ast as ast_zoo
from tests.zoo import sew as sew_zoo
from tests.zoo import wav2vec2 as wav2vec2_zoo
from tests.zoo.hubert import KIND as HUBERT
from tests.zoo.speech import TRUE_STRIDES, edges

VOCABULARY = 40
PAD, START, EOS = 0, 1, 2
UNKNOWN = "<unk>"
SPECIAL = {"pad_token_id": PAD, "bos_token_id": START, "eos_token_id": EOS}
AST = "audio-spectrogram-transformer"
ENCODERS = {AST: ast_zoo.KIND, "hubert": HUBERT, "sew": sew_zoo.KIND, "wav2vec2": wav2vec2_zoo.KIND}
BERT = ("bert", "camembert", "roberta", "xlm-roberta")
DECODERS = (*BERT, "gpt2", "bart", "mbart")


def decoder_config(kind: str, **shape: Any) -> dict[str, Any]:
    """Return a small decoder's configuration, with `shape` by the names of BERT's."""
    asked = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40} | shape
    asked = {"max_position_embeddings": 48, "hidden_act": "gelu"} | asked
    names = {
        "gpt2": {
            "hidden_size": "n_embd",
            "num_hidden_layers": "n_layer",
            "num_attention_heads": "n_head",
            "intermediate_size": "n_inner",
            "max_position_embeddings": "n_positions",
            "hidden_act": "activation_function",
        },
        "bart": {
            "hidden_size": "d_model",
            "num_hidden_layers": "decoder_layers",
            "num_attention_heads": "decoder_attention_heads",
            "intermediate_size": "decoder_ffn_dim",
            "hidden_act": "activation_function",
        },
    }
    renaming = names.get("bart" if kind == "mbart" else kind, {})
    renamed = {renaming.get(name, name): value for name, value in asked.items()}
    return {"model_type": kind, "vocab_size": VOCABULARY, **SPECIAL, **renamed}


def write(folder: Path, architecture: str, seed: int = 0, **config: Any) -> Path:
    """Write a checkpoint of the `encoder` and `decoder` in `config`, where `generation` says how texts are written."""
    given = {"model_type": "hubert", **config.pop("encoder", {})}
    encoder = {**(ast_zoo.SMALL if given["model_type"] == AST else SMALL), **given}
    decoder = config.pop("decoder", decoder_config("bert"))
    generation = {"decoder_start_token_id": START, **SPECIAL, **config.pop("generation", {})}
    extraction = {name: encoder.pop(name) for name in ast_zoo.EXTRACTION if name in encoder}
    torch.manual_seed(seed)
    joint = SpeechEncoderDecoderConfig.from_encoder_decoder_configs(
        AutoConfig.for_model(**encoder), AutoConfig.for_model(**decoder), **config
    )
    model = SpeechEncoderDecoderModel(joint)
    perturb(model, seed)
    # The embeddings more than the others, or every token would be followed by the same.
    with torch.no_grad():
        embeddings: Any = model.decoder.get_input_embeddings()
        embeddings.weight.add_(0.5 * torch.randn(embeddings.weight.shape))
    model.save_pretrained(folder)
    (folder / "generation_config.json").write_text(json.dumps(generation))
    if encoder["model_type"] == AST:
        ast_zoo.write_extractor(folder, joint.encoder, extraction)
    else:
        Wav2Vec2FeatureExtractor(return_attention_mask=True, **extraction).save_pretrained(folder)
    write_text_tokenizer(folder, decoder["vocab_size"])
    return folder


def write_text_tokenizer(folder: Path, size: int) -> None:
    """Write a tokenizer of `size` tokens, some of which go on with a word."""
    tokens = ["<pad>", "<s>", "</s>", UNKNOWN, *(f"{'##' * (index % 3 == 0)}t{index}" for index in range(size - 4))]
    tokenizer = Tokenizer(models.WordPiece({token: index for index, token in enumerate(tokens)}, unk_token=UNKNOWN))
    tokenizer.decoder = decoders.WordPiece()
    names = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": UNKNOWN}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)


@st.composite
def encoder_configurations(draw: st.DrawFn) -> dict[str, Any]:
    """Any encoder, small."""
    name = draw(st.sampled_from(sorted(ENCODERS)))
    config = draw(ENCODERS[name].configurations)
    seed = config.pop("seed")
    if config.get("output_hidden_size") is not None and not config["add_adapter"]:
        config["output_hidden_size"] = None  # transformers projects from a width that the frames then do not have
    return {"encoder": {"model_type": name, **config}, "seed": seed}


@st.composite
def decoder_configurations(draw: st.DrawFn) -> dict[str, Any]:
    """Any decoder, small."""
    kind = draw(st.sampled_from(DECODERS))
    heads = draw(st.sampled_from([1, 2, 3, 4]))
    shape: dict[str, Any] = {
        "num_attention_heads": heads,
        "hidden_size": heads * draw(st.sampled_from([8, 9, 12])),
        "num_hidden_layers": draw(st.integers(1, 3)),
        "intermediate_size": draw(st.sampled_from([8, 24, 65])),
        "hidden_act": draw(st.sampled_from(sorted(ACT2FN))),
    }
    if kind == "gpt2":
        shape["scale_attn_weights"] = draw(st.booleans())
        shape["scale_attn_by_inverse_layer_idx"] = draw(st.booleans())
        shape["reorder_and_upcast_attn"] = draw(st.booleans())
    if kind in {"bart", "mbart"}:
        shape["scale_embedding"] = draw(st.booleans())
    if kind in BERT:
        shape["layer_norm_eps"] = draw(st.sampled_from([1e-5, 1e-12]))
        shape["type_vocab_size"] = draw(st.integers(1, 2))
    shape["tie_word_embeddings"] = draw(st.booleans())
    return {"decoder": decoder_config(kind, **shape)}


@st.composite
def configurations(draw: st.DrawFn) -> dict[str, Any]:
    """Any encoder with any decoder; where an adapter changes the width, transformers takes only a decoder of it."""
    config: dict[str, Any] = draw(encoder_configurations()) | draw(decoder_configurations())
    return config


def _longest(config: dict[str, Any], shortest: int) -> int:
    return ENCODERS[config["encoder"]["model_type"]].longest(config["encoder"], shortest)


KIND = Kind(
    name="speech_encoder_decoder",
    architectures=("SpeechEncoderDecoderModel",),
    write=write,
    configurations=configurations(),
    longest=_longest,
    edges=Specimen("SpeechEncoderDecoderModel", {"encoder": TRUE_STRIDES}),
    edge_lengths=edges(400, frames=(1, 2, 3, 24)),
    seconds=(1, 10, 60),
    exports={
        "bert": Specimen("SpeechEncoderDecoderModel", {"decoder": decoder_config("bert", hidden_size=24)}),
        "convolutional adapter, mbart": Specimen(
            "SpeechEncoderDecoderModel",
            {
                "encoder": {"model_type": "wav2vec2", **wav2vec2_zoo.LARGE, "add_adapter": True},
                "decoder": decoder_config("mbart"),
                "generation": {"num_beams": 3, "forced_eos_token_id": EOS},
            },
        ),
    },
)
