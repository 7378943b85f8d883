from __future__ import annotations

from pathlib import Path

import pytest

from engines.manifest import Manifest, Profile
from export.errors import BuildError
from export.tensorrt.profiles import BUCKETS, MAX_ROWS, profiles

ENGINES = Path(__file__).parents[3] / "demo" / "engines"
HUBERT = Manifest.read(ENGINES / "hubert-ctc-english")  # 1100 to 960,000 samples
GIB = 2**30


def test_a_profile_for_each_bucket_without_gaps() -> None:
    found = profiles(HUBERT, 48000, 80 * GIB)
    assert [profile.max_samples / 16000 for profile in found] == list(BUCKETS)
    assert found[0].min_samples == HUBERT.min_samples
    assert [each.min_samples for each in found[1:]] == [each.max_samples + 1 for each in found[:-1]]
    assert all(each.opt_samples == each.max_samples for each in found)
    assert {each.min_rows for each in found} == {1}


def test_rows_follow_from_memory() -> None:
    def rows(memory: int) -> list[int]:
        return [profile.max_rows for profile in profiles(HUBERT, 48000, memory)]

    assert rows(80 * GIB) == [MAX_ROWS, MAX_ROWS, MAX_ROWS, MAX_ROWS, 64, 32, 16]
    assert rows(8 * GIB) == [64, 64, 32, 16, 8, 4, 1]
    assert rows(2**20) == [1] * len(BUCKETS)
    assert [profile.opt_rows for profile in profiles(HUBERT, 48000, 8 * GIB)] == [8, 8, 4, 4, 4, 2, 1]


def test_chosen_buckets_and_rows() -> None:
    found = profiles(HUBERT, 48000, GIB, (3, 1), rows=6)
    assert found == (
        Profile(min_samples=1100, opt_samples=16000, max_samples=16000, min_rows=1, opt_rows=2, max_rows=6),
        Profile(min_samples=16001, opt_samples=48000, max_samples=48000, min_rows=1, opt_rows=2, max_rows=6),
    )


def test_buckets_are_within_what_the_engine_takes() -> None:
    short = HUBERT.model_copy(update={"max_samples": 56000, "min_samples": 8001})
    assert [profile.max_samples for profile in profiles(short, 48000, GIB)] == [16000, 32000, 56000]


@pytest.mark.parametrize("buckets", [(0.5, 2.9), (0.05,)])
def test_the_last_must_take_the_longest_golden_clip(buckets: tuple[float, ...]) -> None:
    with pytest.raises(BuildError, match=r"--buckets: the last must be 3 s or more"):
        profiles(HUBERT, 48000, GIB, buckets)
