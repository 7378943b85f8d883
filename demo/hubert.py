"""The small HuBERTs of the demonstration, and the front that the other waveform models share with them."""

import math
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from transformers import HubertConfig, PreTrainedModel, Wav2Vec2FeatureExtractor

from demo.speech import SAMPLE_RATE

HIDDEN = 144


def front_config() -> dict[str, Any]:
    """Four convolutions to 50 frames a second and a short positional one; nothing is masked or dropped."""
    return {
        "conv_dim": (64, 80, 96, 128),
        "conv_kernel": (240, 8, 4, 4),
        "conv_stride": (20, 4, 2, 2),
        "conv_bias": False,
        "feat_extract_norm": "group",
        "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 16,
        "hidden_dropout": 0.0,
        "attention_dropout": 0.0,
        "activation_dropout": 0.0,
        "feat_proj_dropout": 0.0,
        "final_dropout": 0.0,
        "layerdrop": 0.0,
        "apply_spec_augment": False,
        "mask_time_prob": 0.0,
        "mask_feature_prob": 0.0,
    }


def hubert_config(layers: int, **rest: Any) -> HubertConfig:
    """Give every HuBERT here the same pre-norm layers, so that one can start from another."""
    return HubertConfig(
        **front_config(),
        hidden_size=HIDDEN,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=336,
        do_stable_layer_norm=True,
        initializer_range=0.05,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=None,
        **rest,
    )


def classes(names: tuple[str, ...]) -> dict[str, Any]:
    """Name the classes in a configuration."""
    labels = dict(enumerate(names))
    return {
        "id2label": labels,
        "label2id": {label: index for index, label in labels.items()},
        "problem_type": "single_label_classification",
    }


def gabor_filters(filters: int, taps: int) -> torch.Tensor:
    """Cosine and sine pairs [filters, 1, taps] under a Hann window, mel-spaced from 80 to 7,400 Hz.

    Wider bands get shorter windows, as in a constant-Q bank; each filter has unit energy.
    """
    low_mel, high_mel = (2595 * math.log10(1 + hertz / 700) for hertz in (80, 7400))
    mel = np.linspace(low_mel, high_mel, filters // 2 + 1)
    edges = 700 * (10 ** (mel / 2595) - 1)
    time = np.arange(taps) - (taps - 1) / 2
    rows = []
    for low, high in pairwise(edges):
        width = min(taps, max(40.0, 3 * SAMPLE_RATE / (high - low)))
        window = np.where(np.abs(time) < width / 2, 0.5 + 0.5 * np.cos(2 * np.pi * time / width), 0)
        angle = np.pi * (low + high) * time / SAMPLE_RATE
        rows += [window * np.cos(angle), window * np.sin(angle)]
    bank = np.stack(rows)
    return torch.tensor(bank / np.linalg.norm(bank, axis=1, keepdims=True), dtype=torch.float32)[:, None]


def without_input_gradient(base: PreTrainedModel) -> None:
    """Spare the gradient of the waveform, which transformers asks for while training: a third of every step."""
    encoder: Any = base.feature_extractor
    encoder._requires_grad = False


def warm_start(base: PreTrainedModel, learnt: PreTrainedModel, *parts: str) -> None:
    """Copy the weights under `parts` from `learnt`, where `base` has them in the same shape; all of them by default."""
    own, other = base.state_dict(), learnt.state_dict()
    fitting = {
        name: other[name]
        for name in own
        if name in other and own[name].shape == other[name].shape and name.startswith(parts or ("",))
    }
    if not fitting:
        raise ValueError(f"nothing of {type(learnt).__name__} fits into {type(base).__name__}")
    base.load_state_dict(fitting, strict=False)


def waveform_extractor() -> Wav2Vec2FeatureExtractor:
    """Return what normalises a 16 kHz waveform to zero mean and unit variance."""
    return Wav2Vec2FeatureExtractor(
        feature_size=1, sampling_rate=SAMPLE_RATE, padding_value=0.0, do_normalize=True, return_attention_mask=True
    )
