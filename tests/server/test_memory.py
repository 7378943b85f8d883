from concurrent.futures import ThreadPoolExecutor

import pytest
from prometheus_client import REGISTRY

from server.errors import MemoryFullError, RequestTooLargeError
from server.memory import Memory, ReleasedError


def gauge(name: str) -> float | None:
    return REGISTRY.get_sample_value(name, {"kind": "audio"})


def test_what_is_taken_is_given_back() -> None:
    memory = Memory("audio", 100)
    with memory.hold() as hold:
        hold.take(60)
        hold.take(40)
        hold.take(-10)
        assert memory.held == 90
        assert gauge("sonant_held_bytes") == 90
    assert memory.held == 0
    assert (gauge("sonant_held_bytes"), gauge("sonant_held_limit_bytes")) == (0, 100)


def test_a_full_memory_is_429_and_takes_nothing() -> None:
    memory = Memory("audio", 100)
    with memory.hold() as first, memory.hold() as second:
        first.take(80)
        with pytest.raises(MemoryFullError, match="holds 80 bytes of audio, 100 is the limit") as caught:
            second.take(21)
        assert (caught.value.status, caught.value.retry_after) == (429, 1)
        with pytest.raises(MemoryFullError):
            memory.check(21)
        memory.check(20)
        second.take(20)
        assert memory.held == 100


def test_what_a_request_has_in_another_account_counts() -> None:
    memory = Memory("audio", 100)
    with memory.hold() as upload:
        upload.take(60)
        with memory.hold(beside=60) as clip:
            clip.take(40)
            with pytest.raises(RequestTooLargeError, match="takes 101 bytes or more, the limit is 100"):
                clip.take(1)
        assert memory.held == 60


def test_what_can_be_done_is_said() -> None:
    with Memory("audio", 100, "send less").hold() as hold, pytest.raises(RequestTooLargeError, match=r": send less$"):
        hold.take(101)


def test_a_request_that_can_never_fit_is_413() -> None:
    memory = Memory("audio", 100)
    with memory.hold() as hold, memory.hold() as other:
        other.take(1)
        hold.take(60)
        with pytest.raises(RequestTooLargeError) as caught:
            hold.take(41)
        assert (caught.value.status, caught.value.retry_after) == (413, None)


def test_who_works_on_for_a_request_that_has_ended_learns_it() -> None:
    memory = Memory("audio", 100)
    with memory.hold() as hold:
        hold.take(60)
    with pytest.raises(ReleasedError):
        hold.take(1)
    hold.release()
    assert memory.held == 0


def test_many_threads_never_hold_more_than_the_limit() -> None:
    memory = Memory("audio", 100)

    def use(_: int) -> int:
        most = 0
        for _ in range(500):
            try:
                with memory.hold() as hold:
                    for _ in range(3):
                        hold.take(30)
                        most = max(most, memory.held)
            except MemoryFullError:
                pass
        return most

    with ThreadPoolExecutor(8) as pool:
        assert 30 <= max(pool.map(use, range(8))) <= 100
    assert memory.held == 0
