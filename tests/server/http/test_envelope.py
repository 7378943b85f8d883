import json

from server.errors import EngineFailedError, QueueFullError
from server.http.envelope import envelope


def test_the_envelope() -> None:
    answer = envelope(QueueFullError("full", "file[3]", retry_after=7))
    assert answer.status_code == 429
    assert answer.headers["Retry-After"] == "7"
    assert json.loads(bytes(answer.body)) == {
        "error": {"message": "full", "type": "rate_limit_error", "param": "file[3]", "code": "queue_full"}
    }


def test_no_retry_after_where_waiting_does_not_help() -> None:
    assert "Retry-After" not in envelope(EngineFailedError("failed")).headers
