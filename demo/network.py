"""The two networks of the demonstration, small HuBERTs, and their checkpoints as transformers writes them."""

import copy
import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from transformers import (
    HubertConfig,
    HubertForCTC,
    HubertForSequenceClassification,
    PreTrainedModel,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
)

from demo.sentences import INTENTS
from demo.speech import SAMPLE_RATE

Model = TypeVar("Model", bound=PreTrainedModel)
SYMBOLS = ("<pad>", "<unk>", "|", "'", *"abcdefghijklmnopqrstuvwxyz")


def shared_config(layers: int) -> dict[str, Any]:
    """Give both networks four convolutions to 50 frames a second, and pre-norm transformer layers."""
    return {
        "hidden_size": 144,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "intermediate_size": 336,
        "conv_dim": (64, 80, 96, 128),
        "conv_kernel": (240, 8, 4, 4),
        "conv_stride": (20, 4, 2, 2),
        "conv_bias": False,
        "feat_extract_norm": "group",
        "do_stable_layer_norm": True,
        "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 16,
        "initializer_range": 0.05,
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


def ctc_config() -> HubertConfig:
    """Letters out: <pad> is the blank, and the symbol that fills a batch of labels."""
    tokens: dict[str, Any] = {"vocab_size": len(SYMBOLS), "pad_token_id": 0, "bos_token_id": None, "eos_token_id": None}
    return HubertConfig(**shared_config(layers=4), **tokens, ctc_loss_reduction="mean", ctc_zero_infinity=True)


def intent_config() -> HubertConfig:
    """One of the grammar's intents out."""
    labels = dict(enumerate(INTENTS))
    return HubertConfig(
        **shared_config(layers=2),
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=None,
        classifier_proj_size=32,
        id2label=labels,
        label2id={label: index for index, label in labels.items()},
        problem_type="single_label_classification",
    )


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


def without_input_gradient(model: HubertForCTC | HubertForSequenceClassification) -> None:
    """Spare the gradient of the waveform, which transformers asks for while training: a third of every step."""
    encoder: Any = model.hubert.feature_extractor
    encoder._requires_grad = False


def new_ctc() -> HubertForCTC:
    """Build an untrained network whose first convolution is a filter bank."""
    model = HubertForCTC(ctc_config())
    with torch.no_grad():
        first = model.get_parameter("hubert.feature_extractor.conv_layers.0.conv.weight")
        first.copy_(gabor_filters(first.shape[0], first.shape[2]))
    return model


def new_intent(ctc: HubertForCTC) -> HubertForSequenceClassification:
    """Build a classifier that starts from the convolutions and the first two layers of a trained `ctc`."""
    model = HubertForSequenceClassification(intent_config())
    own, learnt = model.hubert.state_dict(), ctc.hubert.state_dict()
    model.hubert.load_state_dict({name: learnt[name] for name in own})
    return model


def parameters(model: PreTrainedModel) -> int:
    """How many numbers the network has."""
    return sum(weight.numel() for weight in model.parameters())


def round_to_bf16(model: Model) -> Model:
    """Copy `model` in float32 with weights that are bf16 numbers: what the checkpoint holds, and what is measured."""
    rounded = copy.deepcopy(model)
    with torch.no_grad():
        for weight in rounded.parameters():
            weight.copy_(weight.to(torch.bfloat16).float())
    rounded.train(False)
    return rounded


def save(model: PreTrainedModel, folder: Path) -> None:
    """Write a complete checkpoint in bf16, file by file under a temporary name: a reader never finds half of one."""
    scratch = folder / ".new"
    scratch.mkdir(parents=True, exist_ok=True)
    copy.deepcopy(model).bfloat16().save_pretrained(scratch)
    Wav2Vec2FeatureExtractor(
        feature_size=1, sampling_rate=SAMPLE_RATE, padding_value=0.0, do_normalize=True, return_attention_mask=True
    ).save_pretrained(scratch)
    if isinstance(model, HubertForCTC):
        vocabulary = scratch / "vocab.json"
        vocabulary.write_text(json.dumps({symbol: index for index, symbol in enumerate(SYMBOLS)}))
        Wav2Vec2CTCTokenizer(
            str(vocabulary),
            bos_token=None,
            eos_token=None,
        ).save_pretrained(scratch)
    for file in scratch.iterdir():
        file.chmod(0o644)  # safetensors writes for its owner alone
        file.replace(folder / file.name)
    scratch.rmdir()


def load(kind: type[Model], folder: Path) -> Model:
    """Load the checkpoint in `folder`, its bf16 numbers as float32, ready for inference."""
    model: Model = kind.from_pretrained(folder, dtype=torch.float32)
    model.train(False)
    return model


def encode(text: str) -> list[int]:
    """`text` as symbol numbers, spaces as |."""
    return [SYMBOLS.index("|" if letter == " " else letter) for letter in text]


def greedy(logits: torch.Tensor) -> str:
    """Text of the likeliest path through `logits` [frames, symbols]: repeats merged, blanks dropped."""
    path = torch.unique_consecutive(logits.argmax(-1)).tolist()
    return " ".join("".join(SYMBOLS[index] for index in path if index > 1).replace("|", " ").split())
