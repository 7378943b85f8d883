"""The shape of a speech encoder."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, Literal

from transformers.activations import ACT2FN

from export.errors import CheckpointError, UnsupportedError


@dataclass(frozen=True)
class ConvAdapter:
    """Strided convolutions behind the transformer (`add_adapter`)."""

    kernel: int
    stride: int
    num_layers: int
    size: int


@dataclass(frozen=True)
class SpeechEncoderConfig:
    """The shape of a speech encoder; one per checkpoint, made by its family."""

    conv_dim: tuple[int, ...]
    conv_kernel: tuple[int, ...]
    conv_stride: tuple[int, ...]
    conv_bias: bool
    conv_norm: Literal["group", "layer"]
    conv_activation: str
    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    activation: str
    layer_norm_eps: float
    positions_kernel: int
    positions_groups: int
    # What only some families have, as it is in the others.
    projection_norm: bool = True
    projection: bool = True  # from the width of the convolutions to that of the transformer
    positions_batch_norm: bool = False
    stable_layer_norm: bool = False
    attention_adapter_size: int | None = None
    conv_adapter: ConvAdapter | None = None
    squeeze: int = 1  # frames of the convolutions for one frame of the transformer
    upsamples: bool = False  # whether the transformer's frames are mapped to those of the convolutions again
    # Not the checkpoint's but the user's choice: whether attention probabilities are computed.
    attentions: bool = False

    @property
    def embedding_size(self) -> int:
        """The width of the embeddings."""
        return self.hidden_size if self.conv_adapter is None else self.conv_adapter.size

    @property
    def resamples(self) -> bool:
        """Whether the embeddings have other frames than the transformer."""
        return self.squeeze > 1 or (self.conv_adapter is not None and self.conv_adapter.num_layers > 0)

    @property
    def samples_per_frame(self) -> int:
        """Samples that one frame of the embeddings advances."""
        adapter = self.conv_adapter
        return prod(self.conv_stride) * (1 if adapter is None else adapter.stride**adapter.num_layers)

    @property
    def samples_per_encoder_frame(self) -> int:
        """Samples that one frame of the transformer advances."""
        return prod(self.conv_stride) * self.squeeze

    @property
    def min_samples(self) -> int:
        """The shortest waveform that has a frame of the transformer and of the embeddings.

        And, for group norm, two values to take a variance of.
        """
        frames = 1
        if self.conv_adapter is not None:
            for _ in range(self.conv_adapter.num_layers):  # each pads by one on both sides
                frames = max(1, (frames - 1) * self.conv_adapter.stride + self.conv_adapter.kernel - 2)
        samples = frames * self.squeeze
        for kernel, stride in zip(reversed(self.conv_kernel), reversed(self.conv_stride), strict=True):
            samples = (samples - 1) * stride + kernel
        return max(samples, self.conv_kernel[0] + self.conv_stride[0]) if self.conv_norm == "group" else samples


def shared_config(config: Any) -> SpeechEncoderConfig:
    """Translate what the configurations of every speech encoder of transformers have in common."""
    return SpeechEncoderConfig(
        conv_dim=tuple(config.conv_dim),
        conv_kernel=tuple(config.conv_kernel),
        conv_stride=tuple(config.conv_stride),
        conv_bias=config.conv_bias,
        conv_norm=config.feat_extract_norm,
        conv_activation=config.feat_extract_activation,
        hidden_size=config.hidden_size,
        num_layers=config.num_hidden_layers,
        num_heads=config.num_attention_heads,
        intermediate_size=config.intermediate_size,
        activation=config.hidden_act,
        layer_norm_eps=config.layer_norm_eps,
        positions_kernel=config.num_conv_pos_embeddings,
        positions_groups=config.num_conv_pos_embedding_groups,
    )


def check_shape(config: SpeechEncoderConfig) -> None:
    """Raise CheckpointError or UnsupportedError where no encoder of this shape can be made."""
    if config.num_layers < 1:
        raise UnsupportedError(f"config.json: num_hidden_layers is {config.num_layers}; Sonant exports 1 or more")
    for name in ("conv_dim", "conv_kernel", "conv_stride"):
        values = getattr(config, name)
        if not values or min(values) < 1:
            raise CheckpointError(f"config.json: {name} is {list(values)}; it must be 1 or more in each layer")
    sizes = {"num_attention_heads": (config.num_heads, 1), "squeeze_factor": (config.squeeze, 1)}
    if config.conv_adapter is not None:
        sizes |= {
            "adapter_kernel_size": (config.conv_adapter.kernel, 1),
            "adapter_stride": (config.conv_adapter.stride, 1),
            "num_adapter_layers": (config.conv_adapter.num_layers, 0),
            "output_hidden_size": (config.conv_adapter.size, 1),
        }
    for name, (size, least) in sizes.items():
        if size < least:
            raise CheckpointError(f"config.json: {name} is {size}; it must be {least} or more")
    for activation in (config.activation, config.conv_activation):
        if activation not in ACT2FN:
            raise UnsupportedError(f"config.json: the activation {activation!r} is none of transformers' own")
