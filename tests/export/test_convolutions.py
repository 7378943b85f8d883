from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from export.masking import BLOCK
from export.speech.convolutions import NormalizedConv

CHANNELS, KERNEL, STRIDE = 24, 10, 5
FRAMES = 20 * BLOCK  # a multiple, as the extractor pads to
SAMPLES = (FRAMES - 1) * STRIDE + KERNEL
EPS = 1e-5


def noise(*size: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(3).standard_normal(size).astype(np.float32))


@pytest.fixture
def made() -> tuple[NormalizedConv, nn.Module]:
    """The module, and a convolution and a group norm in fp64 with the same weights."""
    module = NormalizedConv(CHANNELS, KERNEL, STRIDE, EPS)
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    conv, norm = nn.Conv1d(1, CHANNELS, KERNEL, STRIDE), nn.GroupNorm(CHANNELS, CHANNELS, EPS)
    conv.weight.data = module.weight.data[:, :, 0, :]
    norm.weight.data, norm.bias.data = module.norm_weight.data, module.norm_bias.data
    return module.eval(), copy.deepcopy(nn.Sequential(conv, norm)).double().eval()  # with a bias of the convolution


TIME = torch.arange(SAMPLES) / 16000
CLIPS = {
    "noise": noise(SAMPLES),
    "faint noise": 1e-3 * noise(SAMPLES),
    "a tone": torch.sin(2 * torch.pi * 440 * TIME),
    "silence": torch.zeros(SAMPLES),
    "an offset alone": torch.full((SAMPLES,), 0.5),
    "noise beside an offset": 0.5 + 0.01 * noise(SAMPLES),
}


@pytest.mark.parametrize("name", CLIPS)
def test_it_is_the_norm_of_the_convolution(made: tuple[NormalizedConv, nn.Module], name: str) -> None:
    module, reference = made
    clip = CLIPS[name]
    with torch.no_grad():
        found = module(clip[None, None, None, :], torch.tensor([FRAMES]))
        expected = reference(clip.double()[None, None, :]).transpose(1, 2)
        single = copy.deepcopy(reference).float()(clip[None, None, :]).transpose(1, 2)
    own, theirs = ((each[0].double() - expected[0]).abs().max().item() for each in (found[:, 0], single))
    assert own <= max(1e-5, theirs)  # never further from the truth than the two in fp32


def test_what_is_not_valid_leaves_no_trace(made: tuple[NormalizedConv, nn.Module]) -> None:
    module, _ = made
    frames = 3 * BLOCK + 7
    length = (frames - 1) * STRIDE + KERNEL
    clips = torch.stack([noise(SAMPLES), noise(2, SAMPLES)[1]])
    alone = clips[:1, :length]
    alone = torch.nn.functional.pad(alone, (0, (4 * BLOCK - 1) * STRIDE + KERNEL - length))
    clips[0, length:] = 0.0  # as the front end leaves it
    with torch.no_grad():
        batch = module(clips[:, None, None, :], torch.tensor([frames, FRAMES]))
        single = module(alone[:, None, None, :], torch.tensor([frames]))
    torch.testing.assert_close(batch[:1, :, :frames], single[:, :, :frames], rtol=0, atol=2e-6)
    assert torch.isfinite(batch).all()
