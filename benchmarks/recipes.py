"""Checkpoints of true size with random weights: neither time nor memory depends on what the weights are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    Gemma3nAudioConfig,
    Gemma3nAudioFeatureExtractor,
    GenerationConfig,
    HubertConfig,
    MBartConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    SEWConfig,
    SpeechEncoderDecoderConfig,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
)

from benchmarks.machine import versions

WEIGHTS_SEED = 1


@dataclass(frozen=True)
class Recipe:
    """What a checkpoint is made of."""

    like: str  # the published checkpoint whose configuration it has
    architecture: str
    config: Callable[[], PreTrainedConfig]
    extractor: Callable[[], Any]
    dtype: torch.dtype = torch.float32  # of the weights on the disk
    variant: str | None = None  # of the engine
    extras: Mapping[str, Callable[[PreTrainedConfig], Any]] = field(default_factory=dict)


def hubert(like: str, *, masked: bool = False, **settings: Any) -> Recipe:
    """Return a HuBERT encoder; `masked` as its preprocessor_config.json has `return_attention_mask`."""
    return Recipe(like, "HubertModel", lambda: HubertConfig(**settings), lambda: waveform(masked))


def sew(like: str, **settings: Any) -> Recipe:
    """Return a SEW encoder."""
    return Recipe(
        like, "SEWModel", lambda: SEWConfig(num_conv_pos_embeddings=31, **settings), lambda: waveform(masked=False)
    )


def spectrogram(variant: str | None = None) -> Recipe:
    """Return an AST classifier of AudioSet's sounds."""
    return Recipe(
        "MIT/ast-finetuned-audioset-10-10-0.4593",
        "ASTForAudioClassification",
        lambda: ASTConfig(id2label={index: f"sound {index}" for index in range(527)}),
        ASTFeatureExtractor,
        variant=variant,
    )


def waveform(masked: bool) -> Any:
    """Return the feature extractor of the encoders that read the waveform itself."""
    extractor: Any = Wav2Vec2FeatureExtractor
    return extractor(do_normalize=True, return_attention_mask=masked)


def translator() -> PreTrainedConfig:
    """Return wav2vec2 base with convolutional adapters and the decoder of mBART-50."""
    config: Any = SpeechEncoderDecoderConfig
    joint: PreTrainedConfig = config.from_encoder_decoder_configs(
        Wav2Vec2Config(add_adapter=True), MBartConfig(vocab_size=250_054)
    )
    joint.decoder_start_token_id, joint.pad_token_id, joint.eos_token_id = 2, 1, 2
    return joint


def words(config: Any) -> Any:
    """Return a tokenizer with a made-up word for each id of the decoder."""
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    names = [*special, *(f"w{index}" for index in range(len(special), config.decoder.vocab_size))]
    model = Tokenizer(WordLevel({name: index for index, name in enumerate(names)}, unk_token="<unk>"))  # noqa: S106
    model.pre_tokenizer = WhitespaceSplit()
    bos, pad, eos, unknown = special
    fast: Any = PreTrainedTokenizerFast
    return fast(tokenizer_object=model, bos_token=bos, pad_token=pad, eos_token=eos, unk_token=unknown)


def generation(config: Any) -> Any:
    """Return how such a decoder is searched."""
    make: Any = GenerationConfig
    return make(decoder_start_token_id=2, pad_token_id=1, eos_token_id=2, max_length=200, num_beams=5)


# The configurations of published checkpoints. Those of SEW follow from the parameters that its paper states
# (https://arxiv.org/abs/2109.06870: 40.7, 89.6 and 78.8 millions). `tiny` is for tests.
RECIPES = {
    "wav2vec2-base": Recipe("facebook/wav2vec2-base", "Wav2Vec2Model", Wav2Vec2Config, lambda: waveform(masked=False)),
    "hubert-base": hubert("facebook/hubert-base-ls960"),
    "hubert-large": hubert(
        "facebook/hubert-large-ll60k",
        masked=True,
        hidden_size=1024,
        num_hidden_layers=24,
        num_attention_heads=16,
        intermediate_size=4096,
        feat_extract_norm="layer",
        conv_bias=True,
        do_stable_layer_norm=True,
    ),
    "sew-tiny": sew("asapp/sew-tiny-100k", hidden_size=512, num_attention_heads=8, intermediate_size=2048),
    "sew-small": sew("asapp/sew-small-100k"),
    "sew-mid": sew(
        "asapp/sew-mid-100k",
        hidden_size=512,
        num_hidden_layers=24,
        num_attention_heads=8,
        intermediate_size=2048,
    ),
    "ast-base": spectrogram(),
    "ast-base-cropped": spectrogram(variant="cropped"),
    "usm": Recipe(
        "Atotti/google-usm",
        "Gemma3nAudioEncoder",
        Gemma3nAudioConfig,
        Gemma3nAudioFeatureExtractor,
        dtype=torch.bfloat16,
    ),
    "wav2vec2-mbart": Recipe(
        "facebook/wav2vec2-xls-r-300m-en-to-15, with wav2vec2 base",
        "SpeechEncoderDecoderModel",
        translator,
        lambda: waveform(masked=True),
        extras={"tokenizer": words, "generation": generation},
    ),
    "tiny": hubert(
        "none",
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        conv_dim=(24, 24, 24),
        conv_kernel=(10, 8, 8),
        conv_stride=(5, 8, 8),
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
    ),
}


def make(name: str, folder: Path, progress: Callable[[str], None]) -> Path:
    """Write the checkpoint of a recipe below `folder`, unless it is there; the folder's name tells what it is of."""
    recipe = RECIPES[name]
    config = recipe.config()
    made_of = [recipe.architecture, config.to_dict(), str(recipe.dtype), WEIGHTS_SEED, versions()]
    made_from = json.dumps(made_of, default=str)
    path = folder / hashlib.sha256(made_from.encode()).hexdigest()[:12] / name
    if (path / "preprocessor_config.json").is_file():  # written last
        return path
    progress(f"Making a random checkpoint of {name}")
    transformers.utils.logging.disable_progress_bar()  # it would break into ours
    torch.manual_seed(WEIGHTS_SEED)
    architecture: Any = getattr(transformers, recipe.architecture)
    network = architecture(config=config)
    with torch.no_grad():
        for parameter in network.parameters():  # biases begin at 0 and norms at 1, which would hide mistakes
            parameter.add_(0.01 * torch.randn_like(parameter))
    network.to(recipe.dtype).save_pretrained(path)
    for extra in recipe.extras.values():
        extra(config).save_pretrained(path)
    recipe.extractor().save_pretrained(path)
    return path
