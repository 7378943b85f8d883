"""SpeechEncoderDecoder: a speech encoder and a decoder that writes text over its frames."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers.activations import ACT2FN
from transformers.cache_utils import DynamicCache, EncoderDecoderCache

from engines.manifest import LOGITS, Generation
from export import decoders, search, tokenizer
from export.checkpoint import Checkpoint
from export.decoders import DecoderKind, encoders, weights
from export.decoders.config import DecoderConfig
from export.decoders.encoders import Build, Prepare
from export.decoders.step import CrossKeys
from export.errors import CheckpointError, UnsupportedError
from export.exportable import Decoder, Exportable, Options, Reference
from export.families import ast, hubert, sew, wav2vec2

ARCHITECTURE = "SpeechEncoderDecoderModel"


def prepare_spectrogram(checkpoint: Checkpoint, options: Options) -> Build:
    """Prepare an encoder of tokens, all of which the decoder reads: transformers has no mask for them."""
    extractor = ast.load_extractor(checkpoint)
    config = ast.encoder_config(checkpoint.config.encoder, extractor, options)
    return lambda original: encoders.every_token(ast.build_encoder(original, extractor, config), config.tokens)


# By `model_type` of the encoder in config.json.
ENCODERS: dict[str, Prepare] = {
    "audio-spectrogram-transformer": prepare_spectrogram,
    "hubert": encoders.speech(hubert.encoder_config),
    "sew": encoders.speech(sew.encoder_config),
    "wav2vec2": encoders.speech(wav2vec2.encoder_config),
}


class SpeechEncoderDecoder(nn.Module):
    """Waveform and lengths -> what the encoder computes, then what the decoder's cross attention reads."""

    def __init__(self, encoder: nn.Module, cross: CrossKeys) -> None:
        super().__init__()
        self.encoder, self.cross = encoder, cross

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        """Map waveform [batch, samples] and lengths [batch] to arrays."""
        arrays = self.encoder(waveform, lengths)
        return (*arrays, *self.cross(arrays[0]))


class DecoderReference:
    """transformers on one unpadded clip and the beginning of a text, one token at a time as `generate` has it."""

    def __init__(self, model: Any, encoder: Reference) -> None:
        model.config.return_dict = True  # a checkpoint may ask for tuples, whose places have no names
        self._models = {torch.float32: model}
        self._encoder = encoder
        self._encoded: tuple[NDArray[np.float32], torch.dtype, Tensor] | None = None  # of the last clip

    def __call__(
        self, clip: NDArray[np.float32], tokens: NDArray[np.int64], dtype: torch.dtype = torch.float32
    ) -> dict[str, NDArray[np.floating]]:
        """Return the logits after each of `tokens` [steps], and keys and values of the cross attention."""
        if dtype not in self._models:
            self._models[dtype] = copy.deepcopy(self._models[torch.float32]).to(dtype)
        model = self._models[dtype]
        frames = self._frames(clip, dtype)
        cache: Any = EncoderDecoderCache(DynamicCache(), DynamicCache())
        logits = []
        with torch.inference_mode():
            for token in tokens:
                result = model(
                    encoder_outputs=(frames,),
                    decoder_input_ids=torch.tensor([[int(token)]]),
                    past_key_values=cache,
                    use_cache=True,
                )
                logits.append(result.logits[0, -1])
        outputs = {LOGITS: torch.stack(logits)}
        for index, layer in enumerate(cache.cross_attention_cache.layers):
            outputs |= {f"cross.{index}.key": layer.keys[0], f"cross.{index}.value": layer.values[0]}
        return {name: tensor.numpy() for name, tensor in outputs.items()}

    def _frames(self, clip: NDArray[np.float32], dtype: torch.dtype) -> Tensor:
        """Return what the encoder makes of `clip`, [1, frames, hidden]."""
        if self._encoded is None or self._encoded[0] is not clip or self._encoded[1] != dtype:
            self._encoded = (clip, dtype, torch.from_numpy(self._encoder(clip, dtype)["embeddings"])[None])
        return self._encoded[2]


def build(checkpoint: Checkpoint, options: Options) -> Exportable:
    """Make the exportable of a checkpoint with an encoder and a decoder that Sonant has."""
    if checkpoint.architecture != ARCHITECTURE:
        raise UnsupportedError(f"{checkpoint.source} is a {checkpoint.architecture}; Sonant exports {ARCHITECTURE}")
    config = checkpoint.config
    encoder_type = config.encoder.model_type
    if encoder_type not in ENCODERS:
        raise UnsupportedError(f"config.json: the encoder is a {encoder_type!r}; Sonant exports {', '.join(ENCODERS)}")
    kind = decoders.find(config.decoder.model_type)
    decoder_config = shape_of(kind, config.decoder)
    check_decoder(config.decoder, decoder_config)
    build_encoder = ENCODERS[encoder_type](checkpoint, options)
    text = tokenizer.text_of(checkpoint, decoder_config.vocabulary_size)
    original: Any = checkpoint.model(ARCHITECTURE)
    generation = describe(original.generation_config, decoder_config, text)
    encoder = build_encoder(original.encoder)
    cross = cross_keys(original, encoder.hidden_size, decoder_config)
    step = weights.load(kind.state(original.decoder.state_dict()), decoder_config, cross)
    reference = DecoderReference(original, encoder.reference)
    return replace(
        encoder,
        module=SpeechEncoderDecoder(encoder.module, cross).eval(),
        tasks=("encode", "transcribe"),
        decoder=Decoder(step, generation, text.content, reference, encoders.tokens_of(encoder)),
    )


def shape_of(kind: DecoderKind, config: Any) -> DecoderConfig:
    """Translate a decoder's configuration; CheckpointError where a value has no meaning."""
    try:
        return kind.config(config)
    except (ArithmeticError, AttributeError, TypeError, ValueError) as error:
        raise CheckpointError(f"config.json: the decoder's settings make no decoder ({error})") from None


def check_decoder(config: Any, shape: DecoderConfig) -> None:
    """Raise CheckpointError or UnsupportedError where no decoder of this shape can be made."""
    if config.model_type not in {"bart", "mbart"}:  # these always have it
        needed = ("add_cross_attention",) if config.model_type == "gpt2" else ("add_cross_attention", "is_decoder")
        for name in needed:
            if not getattr(config, name, False):
                raise CheckpointError(f"config.json: the decoder's {name} must be true, or it does not read the clip")
    for name in ("vocabulary_size", "hidden_size", "num_layers", "num_heads", "intermediate_size", "max_positions"):
        if getattr(shape, name) < 1:
            raise CheckpointError(f"config.json: the decoder's {name} is {getattr(shape, name)}; it must be 1 or more")
    for activation in {shape.activation, shape.head_activation or shape.activation}:
        if activation not in ACT2FN:
            raise UnsupportedError(f"config.json: the decoder's activation {activation!r} is none of transformers' own")


def cross_keys(original: Any, encoder_size: int, config: DecoderConfig) -> CrossKeys:
    """Make what computes the cross attention's keys and values, with the projection between encoder and decoder."""
    projection: Any = getattr(original, "enc_to_dec_proj", None)
    size = config.hidden_size if projection is None else projection.in_features
    if size != encoder_size:
        raise CheckpointError(
            f"config.json: the encoder's frames have {encoder_size} features, its decoder expects {size}"
        )
    cross = CrossKeys(config, encoder_size, projection is not None).float()
    if cross.projection is not None:
        cross.projection.load_state_dict(projection.state_dict())
    return cross.eval()


def describe(config: Any, shape: DecoderConfig, text: tokenizer.Text) -> Generation:
    """Describe how the decoder writes text."""
    size = shape.vocabulary_size
    return Generation(
        tokenizer=tokenizer.NAME,
        tokenizer_sha256=text.sha256,
        layers=shape.num_layers,
        heads=shape.num_heads,
        head_size=shape.head_size,
        vocabulary_size=size,
        max_positions=shape.max_positions,
        start_token=search.start_token(config, size),
        eos_tokens=search.eos_tokens(config, size),
        pad_token=search.pad_token(config, size),
        skipped=text.skipped,
        clean_up_spaces=text.clean_up_spaces,
        languages=text.languages,
        search=search.search_of(config, size, shape.max_positions),
    )
