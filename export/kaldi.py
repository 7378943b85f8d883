"""Kaldi's filterbank as a module that is traced: waveform -> log mel energies."""

from __future__ import annotations

import warnings

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers.audio_utils import mel_filter_bank, window_function

from export.masking import conv_length, valid

# As `ASTFeatureExtractor` has them, in samples whatever the sample rate.
WINDOW, HOP, FFT = 400, 160, 512
BINS = FFT // 2 + 1
PRE_EMPHASIS = 0.97
LOWEST_HZ = 20.0
FLOOR = 1.192092955078125e-07  # of the energies: 2**-23, fp32's epsilon


class Filterbank(nn.Module):
    """Log mel energies as Kaldi computes them, without dithering.

    Each frame of 400 samples loses its mean, is pre-emphasised, weighted by a symmetric Hann window and transformed by
    the DFT, which is a product with a matrix. Down to there it is computed in fp64, as in transformers: beside a tone,
    what rounding to fp32 leaves in the other bins is as large as the floor (reference:
    transformers.models.audio_spectrogram_transformer.feature_extraction_audio_spectrogram_transformer).
    """

    basis: Tensor
    mel: Tensor

    def __init__(self, sample_rate: int, mel_bins: int) -> None:
        super().__init__()
        self.register_buffer("basis", torch.from_numpy(windowed_dft()), persistent=False)
        self.register_buffer("mel", torch.from_numpy(mel_filters(sample_rate, mel_bins)).float(), persistent=False)

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Map waveform [batch, samples] and lengths [batch] to (energies, frames [batch]).

        The energies are [batch, time, mel bins], one for each hop that `samples` begin, and zero beyond each row's
        frames, which are whole windows.
        """
        hops = (waveform.shape[1] + HOP - 1) // HOP
        frames = conv_length(lengths, WINDOW, HOP)
        x = torch.where(valid(waveform.shape[1], lengths), waveform, torch.zeros((), dtype=waveform.dtype))
        x = emphasized(windows(x, hops, self.basis.dtype)) @ self.basis
        x = x.to(self.mel.dtype)
        power = x[..., :BINS] * x[..., :BINS] + x[..., BINS:] * x[..., BINS:]
        energies = torch.log(torch.clamp(power @ self.mel, min=FLOOR))
        return torch.where(valid(hops, frames)[:, :, None], energies, torch.zeros((), dtype=energies.dtype)), frames


def windows(x: Tensor, hops: int, dtype: torch.dtype) -> Tensor:
    """Return the window at each hop of x [batch, samples], zeros behind its end: [batch, hops, WINDOW]."""
    further = (WINDOW - 1) // HOP  # hops that a window reaches into, beyond its own
    blocks = F.pad(x, (0, (hops + further) * HOP - x.shape[1])).to(dtype).view(x.shape[0], hops + further, HOP)
    return torch.cat([blocks[:, first : first + hops] for first in range(further + 1)], -1)[..., :WINDOW]


def emphasized(x: Tensor) -> Tensor:
    """Remove the mean of each window of x [..., WINDOW] and pre-emphasise it; the first sample precedes itself."""
    x = x - x.mean(-1, keepdim=True)
    return x - PRE_EMPHASIS * torch.cat((x[..., :1], x[..., :-1]), -1)


def windowed_dft() -> NDArray[np.float64]:
    """Return what maps a frame to the real and the imaginary parts of its bins: [WINDOW, 2 x BINS]."""
    angles = 2 * np.pi / FFT * (np.arange(WINDOW)[:, None] * np.arange(BINS) % FFT)
    window = window_function(WINDOW, "hann", periodic=False)[:, None]
    return np.concatenate((window * np.cos(angles), -window * np.sin(angles)), 1)


def mel_filters(sample_rate: int, mel_bins: int) -> NDArray[np.float64]:
    """Return the triangular filters, [BINS, mel bins]."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that some of the published 128 lie between two bins, and are empty
        filters: NDArray[np.float64] = mel_filter_bank(
            num_frequency_bins=BINS,
            num_mel_filters=mel_bins,
            min_frequency=LOWEST_HZ,
            max_frequency=sample_rate // 2,
            sampling_rate=sample_rate,
            mel_scale="kaldi",
            triangularize_in_mel_space=True,
        )
    return filters
