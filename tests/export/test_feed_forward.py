from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from export.feed_forward import PIECE, FeedForward, in_pieces, pieces

WIDTH = 6


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("size", [8, PIECE, 2 * PIECE - 1, 2 * PIECE, 3 * PIECE + 5])
def test_the_sum_over_the_pieces_is_the_whole(size: int, bias: bool) -> None:
    torch.manual_seed(0)
    inner, outer = torch.nn.Linear(WIDTH, size, bias), torch.nn.Linear(size, WIDTH, bias)
    layers = {"intermediate_dense": inner, "output_dense": outer}
    state = {
        f"0.feed_forward.{name}.{kind}": tensor
        for name, layer in layers.items()
        for kind, tensor in layer.state_dict().items()
    }
    feed_forward = FeedForward(WIDTH, size, "silu", bias)
    split = in_pieces(state)
    feed_forward.load_state_dict({key.removeprefix("0.feed_forward."): tensor for key, tensor in split.items()})
    x = torch.randn(2, 5, WIDTH)
    torch.testing.assert_close(feed_forward(x), outer(F.silu(inner(x))), rtol=0, atol=1e-6)
    feed_forward.merge()
    assert [len(feed_forward.intermediate_dense), len(feed_forward.output_dense)] == [1, 1]
    torch.testing.assert_close(feed_forward(x), outer(F.silu(inner(x))), rtol=0, atol=1e-6)
    whole = {tensor.untyped_storage().data_ptr() for tensor in state.values()}
    assert {tensor.untyped_storage().data_ptr() for tensor in split.values()} == whole


def test_pieces_are_about_as_wide_as_is_said() -> None:
    assert [len(piece) for piece in pieces(torch.empty(PIECE - 1))] == [PIECE - 1]
    assert [len(piece) for piece in pieces(torch.empty(6 * PIECE))] == [PIECE] * 6
    assert all(PIECE <= len(piece) < 2 * PIECE for piece in pieces(torch.empty(5000)))


def test_other_tensors_stay_as_they_are() -> None:
    state = {"0.attention.q_proj.weight": torch.zeros(2 * PIECE, 2)}
    assert in_pieces(state) == state
