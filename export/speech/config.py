"""The shape of a speech encoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class SpeechEncoderConfig:
    """The shape of a speech encoder; one per checkpoint, made by its family."""

    conv_dim: tuple[int, ...]
    conv_kernel: tuple[int, ...]
    conv_stride: tuple[int, ...]
    conv_bias: bool
    conv_norm: Literal["group", "layer"]
    conv_activation: str
    projection_norm: bool
    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    activation: str
    layer_norm_eps: float
    positions_kernel: int
    positions_groups: int
    positions_batch_norm: bool
    stable_layer_norm: bool
    adapter_dim: int | None

    @property
    def samples_per_frame(self) -> int:
        """Samples that one frame advances."""
        product = 1
        for stride in self.conv_stride:
            product *= stride
        return product

    @property
    def min_samples(self) -> int:
        """The shortest waveform that has a frame; and, for group norm, two values to take a variance of."""
        samples = 1
        for kernel, stride in zip(reversed(self.conv_kernel), reversed(self.conv_stride), strict=True):
            samples = (samples - 1) * stride + kernel
        return max(samples, self.conv_kernel[0] + self.conv_stride[0]) if self.conv_norm == "group" else samples
