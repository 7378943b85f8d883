from __future__ import annotations

import time
from itertools import pairwise

import pytest

from server.metrics import COUNT_BUCKETS, RATIO_BUCKETS, SECONDS_BUCKETS, stage


def test_a_stage_is_timed_also_where_it_fails() -> None:
    timings: dict[str, float] = {}

    def fail() -> None:
        with stage(timings, "decode"):
            time.sleep(0.01)
            raise ZeroDivisionError

    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            fail()
    assert 0.02 <= timings["decode"] < 60


@pytest.mark.parametrize("buckets", [COUNT_BUCKETS, RATIO_BUCKETS, SECONDS_BUCKETS])
def test_buckets_ascend(buckets: tuple[float, ...]) -> None:
    assert all(low < high for low, high in pairwise(buckets))
