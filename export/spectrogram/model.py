"""A spectrogram encoder with its head, from the waveform to every output."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from engines.manifest import Output
from export.feed_forward import in_pieces
from export.kaldi import Filterbank
from export.masking import MASKED, valid
from export.spectrogram.config import SpectrogramConfig
from export.spectrogram.transformer import Transformer

TOKENS = "tokens"
# The parts of a feed-forward, and what they are called in `export.feed_forward`.
FEED_FORWARD = {
    ".mlp.fc1.": ".feed_forward.intermediate_dense.",
    ".mlp.activation_fn.": ".feed_forward.intermediate_act_fn.",
    ".mlp.fc2.": ".feed_forward.output_dense.",
}


class SpectrogramHead(nn.Module):
    """Logits of each clip from its pooled token."""

    def __init__(self, config: SpectrogramConfig, classes: int) -> None:
        super().__init__()
        self.layernorm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.dense = nn.Linear(config.hidden_size, classes)

    def forward(self, pooled: Tensor) -> Tensor:
        """Map [batch, hidden] to [batch, classes]."""
        return self.dense(self.layernorm(pooled))  # type: ignore[no-any-return]


class SpectrogramModel(nn.Module):
    """Waveform and lengths -> the arrays that `outputs` describes, then those of `lengths`."""

    def __init__(self, config: SpectrogramConfig, classes: int | None) -> None:
        super().__init__()
        self.config = config
        self.classes = classes
        self.filterbank = Filterbank(config.sample_rate, config.mel_bins)
        # In fp32 before the weights come: one activation of transformers is made in bf16, which would round them.
        self.encoder = Transformer(config).float()
        self.head = None if classes is None else SpectrogramHead(config, classes)

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        """Map waveform [batch, samples] and lengths [batch] to embeddings, pooled, logits if any, hidden states.

        Attentions follow, if asked for, and where clips are cropped the tokens of each.
        """
        energies, frames = self.filterbank(waveform, lengths)
        config = self.config
        bias: Tensor | None = None
        ends: tuple[Tensor, ...] = ()
        size = config.max_frames
        if config.cropped:
            patches = patches_within(energies.shape[1], config)
            size = (patches - 1) * config.time_stride + config.patch_size
            ends = (needed_tokens(frames, config),)
            bias = (1.0 - valid(2 + config.mel_patches * patches, ends[0]).to(energies.dtype)) * MASKED
        energies = F.pad(energies, (0, 0, 0, size))[:, :size]
        embeddings, states, attentions = self.encoder((energies - config.mean) / (2 * config.std), bias)
        pooled = (embeddings[:, 0] + embeddings[:, 1]) / 2
        logits = () if self.head is None else (self.head(pooled),)
        return (embeddings, pooled, *logits, *states, *attentions, *ends)

    @property
    def outputs(self) -> tuple[Output, ...]:
        """What comes out, without the lengths."""
        config = self.config
        tokens = TOKENS if config.cropped else config.tokens
        lengths = TOKENS if config.cropped else None

        def tokens_of(name: str) -> Output:
            return Output(name=name, shape=("batch", tokens, config.hidden_size), lengths=lengths)

        logits = () if self.classes is None else (Output(name="logits", shape=("batch", self.classes)),)
        attentions = config.num_layers if config.attentions else 0
        square = ("batch", config.num_heads, tokens, tokens)
        return (
            tokens_of("embeddings"),
            Output(name="pooled", shape=("batch", config.hidden_size)),
            *logits,
            *(tokens_of(f"hidden_states.{index}") for index in range(config.num_layers + 1)),
            *(Output(name=f"attentions.{index}", shape=square, lengths=lengths) for index in range(attentions)),
        )

    @property
    def lengths(self) -> tuple[str, ...]:
        """The names of the lengths, which follow the outputs."""
        return (TOKENS,) if self.config.cropped else ()

    @property
    def layers(self) -> dict[str, int]:
        """How many layers each output needs."""
        layers = dict.fromkeys((output.name for output in self.outputs), self.config.num_layers)
        for name in layers:
            kind, _, index = name.partition(".")
            if index:
                layers[name] = int(index) + (kind == "attentions")
        return layers


def patches_within(hops: int, config: SpectrogramConfig) -> int:
    """Return the patches of time that the longest row of a batch of so many hops may need; both may be symbolic."""
    frames = hops - 2  # the last window begins as many hops before the end, or more
    further: int = torch.sym_max(frames - config.patch_size, 0)  # type: ignore[no-untyped-call]
    needed = 1 + (further + config.time_stride - 1) // config.time_stride
    return torch.sym_min(needed, config.time_patches)  # type: ignore[no-any-return, no-untyped-call]


def needed_tokens(frames: Tensor, config: SpectrogramConfig) -> Tensor:
    """Return the tokens of rows with so many `frames` [batch]: two, and the patches that these frames need."""
    further = (torch.clamp(frames - config.patch_size, min=0) + config.time_stride - 1) // config.time_stride
    return 2 + config.mel_patches * torch.clamp(1 + further, max=config.time_patches)


def load_state(module: SpectrogramModel, original: Any) -> None:
    """Copy the parameters of a transformers model into `module`, each to its place and none left; else RuntimeError."""
    prefix = "" if original.base_model is original else f"{original.base_model_prefix}."
    state = {}
    for key, tensor in original.state_dict().items():
        where = "encoder." if key.startswith(prefix) else "head."
        key = key.removeprefix(prefix).removeprefix("classifier.")
        for theirs, ours in FEED_FORWARD.items():
            key = key.replace(theirs, ours)
        state[where + key] = tensor
    module.load_state_dict(in_pieces(state), strict=True)
