from __future__ import annotations

import argparse

import numpy as np
import pytest

from benchmarks.load import lengths

COUNT = 20_000


def drawn(text: str, count: int = COUNT) -> lengths.Lengths:
    return lengths.parse(text).draw(count, np.random.default_rng(0))


def test_commands_are_short() -> None:
    found = drawn("commands")
    assert (found.min(), found.max()) == pytest.approx((1, 3), abs=0.01)


def test_speech_is_as_long_as_that_of_librispeech() -> None:
    found = drawn("speech")
    assert 2 <= found.min() < 2.1
    assert 19 < found.max() <= 20
    assert 7.0 < found.mean() < 7.4
    assert np.median(found) < 0.9 * found.mean()


def test_mixed_has_as_many_long_clips_as_it_says() -> None:
    for count, long in ((COUNT, COUNT // 20), (64, 3), (6, 1)):
        found = drawn("mixed", count)
        assert (found == 60).sum() == long
        assert (found <= 20).sum() == count - long


def test_lengths_may_be_uniform() -> None:
    found = drawn("0.5,4")
    assert found.mean() == pytest.approx(2.25, rel=0.01)
    assert lengths.parse("0.5,4").name == "0.5,4"
    for text in ("long", "1", "3,1", "0,2", "1,2,3"):
        with pytest.raises(argparse.ArgumentTypeError, match="none of commands, speech, mixed"):
            lengths.parse(text)


@pytest.mark.parametrize("content", lengths.CONTENT)
def test_clips_are_seeded_and_long_enough(content: str) -> None:
    made = [lengths.clips(lengths.parse("0.1,0.5"), 5, 16_000, content, seed, 0.3) for seed in (1, 1, 2)]
    assert all(np.array_equal(*pair) for pair in zip(made[0], made[1], strict=True))
    assert [clip.size for clip in made[0]] != [clip.size for clip in made[2]]
    assert all(4800 <= clip.size <= 8000 and clip.dtype == np.float32 and clip.std() > 0.001 for clip in made[0])


def test_the_demos_sentences_have_one_rate() -> None:
    with pytest.raises(ValueError, match="take --content noise"):
        lengths.clips(lengths.parse("commands"), 1, 8_000, "speech", 0)
