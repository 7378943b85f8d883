"""Audio Spectrogram Transformer: `ASTModel`, `ASTForAudioClassification`.

Its variant `cropped` computes the part of the spectrogram that a clip fills, with the positions of that part, where
transformers fills every clip up to the longest with zeros: another model, and much faster for short clips.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from typing import Any

from transformers.activations import ACT2FN

from engines.manifest import Task
from export.checkpoint import Checkpoint
from export.errors import CheckpointError, UnsupportedError
from export.exportable import Exportable, Options
from export.kaldi import WINDOW
from export.labels import classification_of
from export.spectrogram.config import SpectrogramConfig
from export.spectrogram.model import SpectrogramModel, load_state
from export.spectrogram.reference import SpectrogramReference

CROPPED = "cropped"
TASKS: dict[str, tuple[Task, ...]] = {
    "ASTModel": ("encode",),
    "ASTForAudioClassification": ("encode", "classify"),
}
# Where torchaudio is installed, transformers takes its filterbank, which has other windows at other rates.
TORCHAUDIO_HZ = 16_000


def build(checkpoint: Checkpoint, options: Options) -> Exportable:
    """Make the exportable of an AST checkpoint."""
    architecture = checkpoint.architecture
    if architecture not in TASKS:
        raise UnsupportedError(f"{checkpoint.source} is a {architecture}; Sonant exports {', '.join(TASKS)}")
    extractor = load_extractor(checkpoint)
    config = encoder_config(checkpoint.config, extractor, options)
    classification = classification_of(checkpoint.config) if "classify" in TASKS[architecture] else None
    original: Any = checkpoint.model(architecture)
    exportable = build_encoder(original, extractor, config, len(classification.labels) if classification else None)
    return replace(exportable, tasks=TASKS[architecture], classification=classification)


def build_encoder(original: Any, extractor: Any, config: SpectrogramConfig, classes: int | None = None) -> Exportable:
    """Make the exportable of a transformers model in memory, with its weights, for the task `encode`.

    `config` is what `encoder_config` makes of the model's configuration and its feature extractor. Embeddings are the
    first output; logits are there for a head of so many `classes`.
    """
    module = SpectrogramModel(config, classes)
    load_state(module, original)
    whole = SpectrogramReference(original, extractor, replace(config, cropped=False))
    return Exportable(
        module=module.eval(),
        outputs=module.outputs,
        lengths=module.lengths,
        layers=module.layers,
        tasks=("encode",),
        sample_rate=config.sample_rate,
        min_samples=WINDOW,
        max_samples=config.max_samples,
        preprocessor={
            "sampling_rate": extractor.sampling_rate,
            "num_mel_bins": extractor.num_mel_bins,
            "max_length": extractor.max_length,
            "do_normalize": extractor.do_normalize,
            "mean": extractor.mean,
            "std": extractor.std,
        },
        hidden_size=config.hidden_size,
        num_layers=config.num_layers,
        reference=SpectrogramReference(original, extractor, config) if config.cropped else whole,
        departed_from=whole if config.cropped else None,
        padded_to_longest=not config.cropped,
    )


def load_extractor(checkpoint: Checkpoint) -> Any:
    """Load the feature extractor of `checkpoint`; UnsupportedError or CheckpointError as of `check_extractor`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that some of the published mel filters are empty
        extractor = checkpoint.feature_extractor()
    check_extractor(extractor)
    return extractor


def encoder_config(config: Any, extractor: Any, options: Options) -> SpectrogramConfig:
    """Translate `ASTConfig` and the settings of `ASTFeatureExtractor`.

    Raises CheckpointError where the spectrogram of the one does not fit the other.
    """
    check_shape(config)
    heads = config.num_attention_heads
    shape = SpectrogramConfig(
        sample_rate=extractor.sampling_rate,
        mel_bins=extractor.num_mel_bins,
        max_frames=extractor.max_length,
        mean=extractor.mean if extractor.do_normalize else 0.0,
        std=extractor.std if extractor.do_normalize else 0.5,
        patch_size=config.patch_size,
        mel_stride=config.frequency_stride,
        time_stride=config.time_stride,
        hidden_size=config.hidden_size,
        num_layers=config.num_hidden_layers,
        num_heads=heads,
        head_size=getattr(config, "head_dim", config.hidden_size // heads),
        intermediate_size=config.intermediate_size,
        activation=config.hidden_act,
        layer_norm_eps=config.layer_norm_eps,
        qkv_bias=config.qkv_bias,
        attentions=options.attentions,
        cropped=options.variant == CROPPED,
    )
    expected = replace(shape, mel_bins=config.num_mel_bins, max_frames=config.max_length)
    if (shape.mel_patches, shape.time_patches) != (expected.mel_patches, expected.time_patches):
        raise CheckpointError(
            f"preprocessor_config.json makes {shape.max_frames} frames of {shape.mel_bins} mel bins, and config.json "
            f"has positions for {expected.max_frames} of {expected.mel_bins}: max_length and num_mel_bins must agree"
        )
    return shape


def check_shape(config: Any) -> None:
    """Raise CheckpointError where a size of config.json is not a whole number above 0, or a patch does not fit."""
    if type(config.patch_size) is not int:
        raise UnsupportedError(
            f"config.json: patch_size {config.patch_size}: transformers takes one size for both axes"
        )
    for name in ("patch_size", "frequency_stride", "time_stride", "hidden_size", "num_hidden_layers"):
        positive(name, getattr(config, name), "config.json")
    for name in ("num_attention_heads", "intermediate_size", "max_length", "num_mel_bins"):
        positive(name, getattr(config, name), "config.json")
    positive("head_dim", getattr(config, "head_dim", config.hidden_size // config.num_attention_heads), "config.json")
    if config.patch_size > min(config.max_length, config.num_mel_bins):
        raise CheckpointError(
            f"config.json: a patch of {config.patch_size} does not fit into max_length {config.max_length} frames of "
            f"num_mel_bins {config.num_mel_bins}"
        )
    if config.hidden_act not in ACT2FN:
        raise UnsupportedError(f"config.json: the activation {config.hidden_act!r} is none of transformers' own")


def check_extractor(extractor: Any) -> None:
    """Raise UnsupportedError unless it is AST's feature extractor, CheckpointError where a setting has no meaning."""
    name, file = type(extractor).__name__, "preprocessor_config.json"
    if name != "ASTFeatureExtractor":
        raise UnsupportedError(f"{file}: {name} is not supported here: only ASTFeatureExtractor is")
    for setting in ("sampling_rate", "num_mel_bins", "max_length"):
        positive(setting, getattr(extractor, setting), file)
    if type(extractor.do_normalize) is not bool:
        raise CheckpointError(f"{file}: do_normalize is {extractor.do_normalize!r}; it must be true or false")
    for setting in ("mean", "std"):
        value = getattr(extractor, setting)
        if type(value) not in (int, float) or not math.isfinite(value):
            raise CheckpointError(f"{file}: {setting} is {value!r}; it must be a number")
    if extractor.std <= 0:
        raise CheckpointError(f"{file}: std is {extractor.std}; it must be above 0")
    if extractor.sampling_rate != TORCHAUDIO_HZ and not hasattr(extractor, "mel_filters"):
        raise UnsupportedError(
            f"{file}: sampling_rate is {extractor.sampling_rate}; with torchaudio, transformers computes such a "
            "filterbank in another way than without: uninstall torchaudio to export it"
        )


def positive(name: str, value: Any, file: str) -> None:
    """Raise CheckpointError that names the setting of `file` unless its value is a whole number above 0."""
    if type(value) is not int or value < 1:
        raise CheckpointError(f"{file}: {name} is {value!r}; it must be a whole number above 0")
