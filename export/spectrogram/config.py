"""The shape of a spectrogram encoder."""

from __future__ import annotations

from dataclasses import dataclass

from export.kaldi import HOP, WINDOW


@dataclass(frozen=True)
class SpectrogramConfig:
    """The shape of a spectrogram encoder and of its input; one per checkpoint, made by its family."""

    sample_rate: int
    mel_bins: int
    max_frames: int
    mean: float  # of a training set's energies; 0 and 0.5 where they are not normalised
    std: float
    patch_size: int
    mel_stride: int
    time_stride: int
    hidden_size: int
    num_layers: int
    num_heads: int
    head_size: int
    intermediate_size: int
    activation: str
    layer_norm_eps: float
    qkv_bias: bool
    # Not the checkpoint's but the user's choice.
    attentions: bool = False
    cropped: bool = False

    @property
    def mel_patches(self) -> int:
        """Patches along the mel bins."""
        return (self.mel_bins - self.patch_size) // self.mel_stride + 1

    @property
    def time_patches(self) -> int:
        """Patches along the frames of the longest clip."""
        return (self.max_frames - self.patch_size) // self.time_stride + 1

    @property
    def tokens(self) -> int:
        """The class token, the distillation token and the patches of the longest clip."""
        return 2 + self.mel_patches * self.time_patches

    @property
    def max_samples(self) -> int:
        """The longest clip of which no frame is cut off."""
        return (self.max_frames - 1) * HOP + WINDOW + HOP - 1
