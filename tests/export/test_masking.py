from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from export.masking import BLOCK, block_norm, block_sum, conv_length, masked_mean, pad_to_block, valid


@given(st.integers(0, 200), st.integers(1, 12), st.integers(1, 9))
def test_conv_length_is_what_torch_makes(length: int, kernel: int, stride: int) -> None:
    found = conv_length(torch.tensor([length]), kernel, stride).item()
    if length < kernel:
        assert found == 0
    else:
        assert found == torch.nn.Conv1d(1, 1, kernel, stride)(torch.zeros(1, 1, length)).shape[-1]


def test_valid_is_true_before_the_length() -> None:
    assert valid(3, torch.tensor([0, 2, 5])).tolist() == [[False] * 3, [True, True, False], [True] * 3]


@given(st.integers(1, 5 * BLOCK))
def test_block_sum_sums_all(size: int) -> None:
    x = torch.randn(2, size, dtype=torch.float64)
    torch.testing.assert_close(block_sum(pad_to_block(x)), x.sum(-1, keepdim=True))


def test_block_sum_keeps_the_digits_of_a_minute() -> None:
    x = torch.rand(1, 60 * 16000)
    exact = x.double().sum()
    assert abs(block_sum(x).item() / exact - 1) < 5e-7


@given(st.integers(1, 5 * BLOCK))
def test_block_norm_is_the_norm_of_all(size: int) -> None:
    x = torch.randn(2, size, dtype=torch.float64)
    torch.testing.assert_close(block_norm(pad_to_block(x)), torch.linalg.vector_norm(x, dim=-1, keepdim=True))


def test_masked_mean_sees_valid_frames_only() -> None:
    x = torch.arange(6.0).reshape(2, 3, 1)
    assert masked_mean(x, torch.tensor([2, 0])).tolist() == [[0.5], [0.0]]
