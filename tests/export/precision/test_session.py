from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from export.precision.session import AccumulatedInSingle, ModuleSession


def normal(*shape: int, dtype: torch.dtype = torch.float16) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    "product",
    [
        lambda dtype: F.linear(normal(5, 64, dtype=dtype), normal(7, 64, dtype=dtype), normal(7, dtype=dtype)),
        lambda dtype: normal(2, 5, 64, dtype=dtype) @ normal(2, 64, 3, dtype=dtype),
        lambda dtype: F.conv1d(normal(2, 6, 40, dtype=dtype), normal(8, 3, 5, dtype=dtype), groups=2, padding=2),
        lambda dtype: F.conv2d(normal(2, 6, 1, 40, dtype=dtype), normal(8, 6, 1, 5, dtype=dtype), stride=(1, 2)),
    ],
    ids=["linear", "matmul", "conv1d", "conv2d"],
)
def test_products_are_those_of_the_kernels_for_halves(
    product: Callable[[torch.dtype], Tensor], dtype: torch.dtype
) -> None:
    own = product(dtype)
    with AccumulatedInSingle():
        found = product(dtype)
    assert found.dtype == own.dtype == dtype
    # Sums in another order may fall to the other side of a rounding.
    torch.testing.assert_close(found.float(), own.float(), rtol=2 * torch.finfo(dtype).eps, atol=1e-3)


def test_what_a_half_cannot_hold_overflows() -> None:
    with AccumulatedInSingle():
        assert torch.isinf(F.linear(torch.full((1, 4), 200.0).half(), torch.full((1, 4), 200.0).half())).all()
        single = F.linear(torch.full((1, 4), 200.0), torch.full((1, 4), 200.0))
    assert single.item() == 160_000


class Halved(nn.Module):
    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return waveform / 2, lengths // 2


def test_a_module_is_a_session() -> None:
    session = ModuleSession(Halved(), ("waveform", "lengths"), ("embeddings", "frames"))
    arrays = session.run(np.ones((2, 3), np.float32), np.array([3, 2]), ["frames", "embeddings"])
    assert list(arrays) == ["frames", "embeddings"]
    assert arrays["embeddings"].tolist() == [[0.5] * 3] * 2
    assert arrays["frames"].tolist() == [1, 1]
    value = session.place(np.arange(24.0).reshape(2, 1, 3, 4)).select(np.array([1]), 2)
    assert value.numpy().tolist() == [[[[12.0, 13.0, 14.0, 15.0], [16.0, 17.0, 18.0, 19.0]]]]
