from __future__ import annotations

import pytest

from sonant.client.errors import ClientError, ConnectionFailedError, RateLimitError, ServerError, TimedOutError
from sonant.client.retries import FIRST_PAUSE, LONGEST_PAUSE, SPREAD, Retries


def full(retry_after: float | None) -> RateLimitError:
    return RateLimitError("full", status=429, code="queue_full", retry_after=retry_after)


def test_pauses_grow_where_the_server_says_none() -> None:
    retries = Retries(20, 1e6)
    pauses = [retries.pause(ConnectionFailedError("no")) or 0 for _ in range(10)]
    for number, pause in enumerate(pauses):
        least = min(FIRST_PAUSE * 2**number, LONGEST_PAUSE)
        assert least <= pause <= least * (1 + SPREAD)


def test_what_the_server_says_is_waited_for_and_hardly_more() -> None:
    pauses = [Retries(1, 1e6).pause(full(8.0)) or 0 for _ in range(50)]
    assert all(8 <= pause <= 8 * (1 + SPREAD) for pause in pauses)
    assert len(set(pauses)) > 40  # clients do not come back together
    assert Retries(1, 1e6).pause(full(0.0)) == 0


def test_there_are_so_many_retries_and_no_more() -> None:
    retries = Retries(2, 1e6)
    assert [retries.pause(full(1.0)) is not None for _ in range(4)] == [True, True, False, False]


def test_no_retry_begins_after_the_time_is_over() -> None:
    assert Retries(5, 10).pause(full(9.0 / (1 + SPREAD))) is not None
    assert Retries(5, 10).pause(full(11.0)) is None


@pytest.mark.parametrize(
    ("error", "is_temporary"),
    [
        (full(None), True),
        (ServerError("loading", status=503, code="model_not_ready", retry_after=2), True),
        (ServerError("failed to load", status=503, code="model_not_ready"), False),
        (ServerError("a proxy", status=503), True),
        (ServerError("failed", status=500, code="internal_error", retry_after=1), False),
        (TimedOutError("late"), False),
        (ConnectionFailedError("no"), True),
    ],
)
def test_only_what_is_temporary_is_tried_again(error: ClientError, is_temporary: bool) -> None:
    assert (Retries(5, 1e6).pause(error) is not None) is is_temporary
