from __future__ import annotations

import pytest
import torch

from export.attention import Attend, attend, attend_openly, split_heads, with_bias
from export.masking import MASKED

HEADS = 4


@pytest.mark.parametrize("size", [4, 7, 8, 12])
def test_a_bias_of_the_keys_becomes_components_of_queries_and_keys(size: int) -> None:
    query, key, value = torch.randn(3, 2, 9, HEADS, size, generator=torch.Generator().manual_seed(0)).unbind()
    bias = torch.zeros(2, 9, 1)
    bias[1, 5:] = MASKED
    longer_query, longer_key = with_bias(query, key, bias)
    assert longer_query.shape == longer_key.shape
    assert longer_key.shape[3] % 8 == 0
    masked = attend(longer_query.flatten(2), longer_key.flatten(2), value.flatten(2), HEADS)
    whole = attend(query[:1].flatten(2), key[:1].flatten(2), value[:1].flatten(2), HEADS)
    cut = attend(query[1:, :5].flatten(2), key[1:, :5].flatten(2), value[1:, :5].flatten(2), HEADS)
    torch.testing.assert_close(masked[:1], whole, rtol=0, atol=1e-6)
    torch.testing.assert_close(masked[1:, :5], cut, rtol=0, atol=1e-6)


def test_the_probabilities_are_those_of_the_context() -> None:
    query, key, value = torch.randn(3, 2, 9, HEADS, 8, generator=torch.Generator().manual_seed(0)).unbind()
    context, probabilities = attend_openly(query, key, value.flatten(2), None)
    expected = attend(query.flatten(2), key.flatten(2), value.flatten(2), HEADS)
    torch.testing.assert_close(context, expected, rtol=0, atol=1e-6)
    assert probabilities.shape == (2, HEADS, 9, 9)
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(2, HEADS, 9))
    torch.testing.assert_close(split_heads(context, HEADS), probabilities @ value.transpose(1, 2))


@pytest.mark.parametrize("masked", [True, False])
def test_every_way_attends_to_the_same(masked: bool) -> None:
    query, key, value = torch.randn(3, 2, 9, HEADS, 8, generator=torch.Generator().manual_seed(0)).unbind()
    bias = torch.zeros(2, 9, 1)
    bias[1, 5:] = MASKED
    ways = [Attend(HEADS), Attend(HEADS, shown=True), Attend(HEADS)]
    ways[2].standard = True
    found = [way(query, key, value.flatten(2), bias if masked else None) for way in ways]
    for context, probabilities in found:
        torch.testing.assert_close(context, found[0][0], rtol=0, atol=1e-6)
        assert probabilities is None or not masked or not probabilities[1, :, :, 5:].any()
    assert [probabilities is None for _, probabilities in found] == [True, False, True]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_softmax_of_halves_is_in_fp32(dtype: torch.dtype) -> None:
    query, key, value = torch.randn(3, 1, 9, HEADS, 8, generator=torch.Generator().manual_seed(0)).to(dtype).unbind()
    context, probabilities = attend_openly(query, key, value.flatten(2), torch.zeros(1, 9, 1))
    assert (context.dtype, probabilities.dtype) == (dtype, torch.float32)
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(1, HEADS, 9))
