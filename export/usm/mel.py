"""What `Gemma3nAudioFeatureExtractor` does to one clip, for a padded batch: waveform -> log mel frames."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor, nn

from export.masking import valid
from export.usm.extractor import MULTIPLE


class MelFrames(nn.Module):
    """Frames of the waveform -> magnitudes -> log mel. The DFT is a product with its matrix: no STFT in the graph.

    What stands beyond the lengths is replaced by the extractor's padding, whatever it holds; a clip's last frame sees
    up to 127 samples of that.
    """

    window: Tensor
    dft: Tensor  # [size, cosines and then sines of the frequencies]
    constant: Tensor  # what becomes of a frame of ones
    filters: Tensor
    mean: Tensor
    deviation: Tensor

    def __init__(self, extractor: Any) -> None:
        super().__init__()
        self.size, self.hop = int(extractor.frame_length), int(extractor.hop_length)
        self.preemphasis = max(extractor.preemphasis, 0.0)
        # HTK's flavour makes a frame's first sample of the frame alone, but there the window is 0. What is left of the
        # difference: the frames of the other flavour begin one sample later.
        self.later = int(self.preemphasis > 0 and not extractor.preemphasis_htk_flavor)
        self.padding, self.scale = float(extractor.padding_value), float(extractor.input_scale_factor)
        self.floor = float(extractor.mel_floor)
        filters = np.asarray(extractor.mel_filters)  # [frequencies, bins]
        heard = np.flatnonzero(filters.any(1))  # the others are not computed
        angles = 2 * np.pi / extractor.fft_length * np.outer(np.arange(self.size), heard)
        self._constant("window", extractor.window)
        dft = np.concatenate((np.cos(angles), np.sin(angles)), 1)
        self._constant("dft", dft)
        self._constant("constant", extractor.window.astype(np.float64) @ dft)
        self._constant("filters", filters[heard])
        self._constant("mean", 0.0 if extractor.per_bin_mean is None else extractor.per_bin_mean)
        self._constant("deviation", 1.0 if extractor.per_bin_stddev is None else extractor.per_bin_stddev)

    def _constant(self, name: str, values: NDArray[np.floating] | float) -> None:
        self.register_buffer(name, torch.from_numpy(np.asarray(values, np.float32)), persistent=False)

    @property
    def min_samples(self) -> int:
        """The shortest clip whose padded waveform holds a frame, and the sample behind it."""
        return self.size // MULTIPLE * MULTIPLE + 1

    def frames(self, samples: Any) -> Any:
        """Return the frames of a clip of `samples`: of an int, a symbol or a tensor."""
        padded = (samples + MULTIPLE - 1) // MULTIPLE * MULTIPLE
        return (padded - (self.size + 1) + self.hop) // self.hop

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Map waveform [batch, samples] and lengths [batch] to ([batch, frames, bins], valid frames [batch])."""
        x = torch.where(valid(waveform.shape[1], lengths), waveform, self.padding)
        hops = (self.size + self.hop - 1) // self.hop
        # A frame begins in each hop: one or two more than there are, for a shape that is a simple function of another.
        frames = (x.shape[1] + self.hop - 1) // self.hop
        x = F.pad(x, (0, (frames + hops) * self.hop - x.shape[1]), value=self.padding) * self.scale
        if self.preemphasis > 0:
            x = F.pad(x[:, 1:] - self.preemphasis * x[:, :-1], (1 - self.later, self.later))
        x = x.reshape(x.shape[0], frames + hops, self.hop)
        x = torch.cat([x[:, index : index - hops] for index in range(hops)], 2)[:, :, : self.size]
        # A constant's spectrum falls by many digits, all of which a sum in fp32 would lose: it is known beforehand.
        level = x.mean(2, keepdim=True)
        spectrum = ((x - level) * self.window) @ self.dft + level * self.constant
        real, imaginary = spectrum.chunk(2, 2)
        magnitudes = torch.sqrt(real * real + imaginary * imaginary)
        mel = torch.log(torch.clamp(magnitudes @ self.filters, min=self.floor))
        return (mel - self.mean) / self.deviation, torch.clamp(self.frames(lengths), min=0)
