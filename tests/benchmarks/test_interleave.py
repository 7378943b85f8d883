from __future__ import annotations

import time
from functools import partial

import pytest

from benchmarks.interleave import interleave, warm_up


def test_contestants_take_turns() -> None:
    calls: list[str] = []
    times = interleave({"a": partial(calls.append, "a"), "b": partial(calls.append, "b")}, 0.0, 3)
    assert calls == ["a", "b"] * 3
    assert {name: taken.size for name, taken in times.items()} == {"a": 3, "b": 3}


def test_rounds_go_on_until_the_time_is_spent() -> None:
    shares: list[float] = []
    times = interleave({"a": lambda: None}, 0.2, 2, lambda rounds, share: shares.append(share))
    assert times["a"].size == len(shares) > 2
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_what_is_timed_is_the_call() -> None:
    times = interleave({"a": partial(time.sleep, 0.02)}, 0.0, 1)
    assert times["a"][0] >= 0.02


def test_a_warm_up_returns_what_each_computed() -> None:
    assert warm_up({"a": lambda: 1, "b": lambda: 2}) == {"a": 1, "b": 2}


def test_no_round_is_no_measurement() -> None:
    with pytest.raises(ValueError, match="at least one round"):
        interleave({}, 0.0, 0)
