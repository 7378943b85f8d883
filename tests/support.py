"""Checkpoints for the tests: random, of any configuration, every parameter perturbed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from transformers import Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor

LETTERS = ["<pad>", "<s>", "</s>", "<unk>", "|", *"abcdefghijklmnopqrstuvwxyz", "'"]
SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "conv_dim": (24, 24, 24, 24),
    "conv_kernel": (10, 8, 4, 4),
    "conv_stride": (5, 4, 4, 4),
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "classifier_proj_size": 20,
    "vocab_size": len(LETTERS),
}


def perturb(model: torch.nn.Module, seed: int, scale: float = 0.05) -> None:
    """Move every parameter and statistic: transformers initialises biases to 0 and norms to 1, which hides mistakes."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator).to(parameter.dtype))
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.add_(scale * torch.randn(buffer.shape, generator=generator))
            if name.endswith("running_var"):
                buffer.mul_(torch.exp(scale * torch.randn(buffer.shape, generator=generator)))


def make_checkpoint(folder: Path, architecture: str = "HubertModel", seed: int = 0, **settings: Any) -> Path:
    """Write a speech encoder's checkpoint with random weights into `folder`; `settings` override `SMALL`."""
    do_normalize = settings.pop("do_normalize", True)
    torch.manual_seed(seed)
    model_class = getattr(transformers, architecture)
    model = model_class(model_class.config_class(**{**SMALL, **settings}))
    perturb(model, seed)
    model.save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=do_normalize, return_attention_mask=True).save_pretrained(folder)
    if architecture.endswith("ForCTC"):
        write_tokenizer(folder)
    return folder


def with_config(checkpoint: Path, folder: Path, **settings: Any) -> Path:
    """Link the files of `checkpoint` into `folder`, with a config.json that says something else."""
    for path in checkpoint.iterdir():
        if path.name != "config.json":
            (folder / path.name).symlink_to(path)
    config = json.loads((checkpoint / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | settings))
    return folder


def write_tokenizer(folder: Path, vocabulary: dict[str, Any] | None = None, **settings: Any) -> None:
    """Write vocab.json and what goes with it."""
    vocabulary = vocabulary or {token: index for index, token in enumerate(LETTERS)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    Wav2Vec2CTCTokenizer(str(folder / "vocab.json"), **settings).save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps(vocabulary))


def noise(samples: int, seed: int = 0, scale: float = 0.1) -> NDArray[np.float32]:
    """Return `samples` of white noise with a slow swell, so that no two stretches are alike."""
    generator = np.random.default_rng(seed)
    swell = 1 + 0.8 * np.sin(np.arange(samples) / 1700 + seed)
    return (scale * swell * generator.standard_normal(samples)).astype(np.float32)
