import json

import pytest

from server.errors import (
    ApiError,
    BodyInvalidError,
    DeadlineError,
    EngineFailedError,
    QueueFullError,
    ShuttingDownError,
)
from server.http.envelope import envelope


def test_the_envelope() -> None:
    answer = envelope(QueueFullError("full", "file[3]", retry_after=7))
    assert answer.status_code == 429
    assert answer.headers["Retry-After"] == "7"
    assert json.loads(bytes(answer.body)) == {
        "error": {"message": "full", "type": "rate_limit_error", "param": "file[3]", "code": "queue_full"}
    }


@pytest.mark.parametrize("error", [EngineFailedError("failed"), DeadlineError("late", "timeout")])
def test_where_waiting_does_not_help_clients_are_told_not_to_try_again(error: ApiError) -> None:
    headers = envelope(error).headers
    assert "Retry-After" not in headers
    assert headers["X-Should-Retry"] == "false"


@pytest.mark.parametrize(
    "error", [ShuttingDownError("later", retry_after=1), QueueFullError("full"), BodyInvalidError("?")]
)
def test_nothing_is_said_against_trying_again_elsewhere(error: ApiError) -> None:
    assert "X-Should-Retry" not in envelope(error).headers
