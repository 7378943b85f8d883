"""The shape of a USM encoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from export.errors import CheckpointError, UnsupportedError

Pair = tuple[int, int]


@dataclass(frozen=True)
class UsmConfig:
    """The shape of a USM encoder; one per checkpoint."""

    mel_bins: int
    conv_channels: Pair
    conv_kernels: tuple[Pair, Pair]  # time, frequency
    conv_strides: tuple[Pair, Pair]
    conv_norm_eps: float
    hidden_size: int
    num_layers: int
    num_heads: int
    chunk: int  # frames whose attention is computed together
    past: int  # frames before its own that a frame attends to
    future: int  # and behind its own
    logit_cap: float
    light_conv_kernel: int
    light_conv_eps: float
    residual_weight: float
    clipping: float  # the largest absolute value between the parts of a block
    reduction: int  # of so many frames of the last block, the embeddings have one

    @property
    def head_size(self) -> int:
        """Features of one head."""
        return self.hidden_size // self.num_heads

    @property
    def mel_frames_per_frame(self) -> int:
        """Mel frames that a frame of the blocks advances."""
        return self.conv_strides[0][0] * self.conv_strides[1][0]

    @property
    def frequencies(self) -> int:
        """Frequencies that the convolutions leave, each of which pads by one on either side."""
        size = self.mel_bins
        for (_, kernel), (_, stride) in zip(self.conv_kernels, self.conv_strides, strict=True):
            size = (size + 2 - kernel) // stride + 1
        return size


def usm_config(config: Any) -> UsmConfig:
    """Translate `Gemma3nAudioConfig`; CheckpointError or UnsupportedError where no encoder can have that shape."""
    sizes = ("input_feat_size", "hidden_size", "conf_num_attention_heads", "conf_attention_chunk_size")
    for name in (*sizes, "conf_conv_kernel_size"):
        _check(config, name, _is_size)
    for name in ("conf_attention_context_left", "conf_attention_context_right"):
        _check(config, name, lambda value: type(value) is int and value >= 0, "0 or more")
    for name in ("conf_attention_logit_cap", "gradient_clipping"):
        _check(config, name, lambda value: type(value) in {int, float} and value > 0, "above 0")
    _check(config, "sscp_conv_channel_size", _is_pair, "two whole numbers above 0")
    for name in ("sscp_conv_kernel_size", "sscp_conv_stride_size"):
        _check(config, name, lambda value: _is_two_of(_is_pair, value), "two pairs of whole numbers above 0")
    if config.hidden_size % 2 or config.hidden_size % config.conf_num_attention_heads:
        raise CheckpointError(
            f"config.json: hidden_size is {config.hidden_size}; it must be even, and a multiple of "
            f"conf_num_attention_heads, {config.conf_num_attention_heads}"
        )
    if config.conf_num_hidden_layers < 1:
        layers = config.conf_num_hidden_layers
        raise UnsupportedError(f"config.json: conf_num_hidden_layers is {layers}; Sonant exports 1 or more")
    translated = UsmConfig(
        mel_bins=config.input_feat_size,
        conv_channels=tuple(config.sscp_conv_channel_size),
        conv_kernels=_pairs(config.sscp_conv_kernel_size),
        conv_strides=_pairs(config.sscp_conv_stride_size),
        conv_norm_eps=config.sscp_conv_group_norm_eps,
        hidden_size=config.hidden_size,
        num_layers=config.conf_num_hidden_layers,
        num_heads=config.conf_num_attention_heads,
        chunk=config.conf_attention_chunk_size,
        past=max(0, config.conf_attention_context_left - 1),  # the frame itself is counted there
        future=config.conf_attention_context_right,
        logit_cap=config.conf_attention_logit_cap,
        light_conv_kernel=config.conf_conv_kernel_size,
        light_conv_eps=config.rms_norm_eps,
        residual_weight=config.conf_residual_weight,
        clipping=config.gradient_clipping,
        reduction=max(1, config.conf_reduction_factor),
    )
    if translated.frequencies < 1:
        raise CheckpointError("config.json: sscp_conv_kernel_size leaves no frequency of input_feat_size")
    return translated


def _pairs(values: Any) -> tuple[Pair, Pair]:
    (a, b), (c, d) = values
    return (a, b), (c, d)


def _check(config: Any, name: str, fits: Callable[[Any], bool], expected: str = "a whole number above 0") -> None:
    value = getattr(config, name)
    if not fits(value):
        raise CheckpointError(f"config.json: {name} is {value!r}; it must be {expected}")


def _is_size(value: object) -> bool:
    return type(value) is int and value > 0


def _is_pair(value: object) -> bool:
    return _is_two_of(_is_size, value)


def _is_two_of(kind: Callable[[object], bool], value: object) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 2 and all(map(kind, value))
