from __future__ import annotations

import ctypes
import gc
from typing import Any

import numpy as np
import pytest

from engines.runtimes.pinned import SMALLEST_BYTES, PinnedMemory

LARGE = (SMALLEST_BYTES // 4, 3)  # of float32: three times the least


class Blocks:
    """Memory that stays where it is."""

    def __init__(self) -> None:
        self.kept: list[Any] = []

    def __call__(self, size: int) -> int:
        self.kept.append((ctypes.c_uint8 * size)())
        return ctypes.addressof(self.kept[-1])


@pytest.fixture
def blocks() -> Blocks:
    return Blocks()


def test_without_a_gpu_arrays_are_as_always() -> None:
    array = PinnedMemory().empty(LARGE, np.float32)
    assert array.base is None


def test_large_arrays_lie_in_blocks(blocks: Blocks) -> None:
    memory = PinnedMemory()
    memory.begin(blocks)
    array = memory.empty(LARGE, np.float32)
    array[:] = 7
    assert array.shape == LARGE
    assert array.dtype == np.float32
    assert len(blocks.kept[0]) == 4 * SMALLEST_BYTES
    assert array.ctypes.data == ctypes.addressof(blocks.kept[0])
    assert memory.empty((3,), np.int64).shape == (3,)
    assert len(blocks.kept) == 1


def test_a_block_is_used_again_when_nobody_looks_at_it_any_more(blocks: Blocks) -> None:
    memory = PinnedMemory()
    memory.begin(blocks)
    row = memory.empty(LARGE, np.float32)[5]
    other = memory.empty(LARGE, np.float32)
    assert len(blocks.kept) == 2
    row[:] = 1
    other[:] = 2
    assert (row == 1).all()
    del other
    gc.collect()
    again = memory.empty(LARGE, np.float32)
    assert len(blocks.kept) == 2
    assert not np.shares_memory(again, row)


def test_beyond_the_limit_arrays_are_as_always(blocks: Blocks) -> None:
    memory = PinnedMemory(limit=5 * SMALLEST_BYTES)
    memory.begin(blocks)
    arrays = [memory.empty(LARGE, np.float32) for _ in range(2)]
    assert len(blocks.kept) == 1
    assert [array.base is None for array in arrays] == [False, True]


def test_a_driver_without_memory_is_no_obstacle() -> None:
    memory = PinnedMemory()
    memory.begin(lambda size: None)
    assert memory.empty(LARGE, np.float32).base is None
