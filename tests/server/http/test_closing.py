import asyncio
import json
import re

import pytest
from starlette.types import Message

import server.http.closing
from server.errors import (
    ApiError,
    EngineFailedError,
    EngineHungError,
    ModelReplacedError,
    QueueFullError,
    ShuttingDownError,
)
from server.http.closing import close_code, close_with
from tests.server.test_errors import all_errors

CODES = {int(code) for code in re.findall(r"^\| (\d{4}) \|", str(server.http.closing.__doc__), re.MULTILINE)}
# What no stream fails with: it has no body, no head that is read here, and its answer one form.
NOT_OF_STREAMS = {406, 431, 501}


@pytest.mark.parametrize("kind", all_errors())
def test_every_error_closes_with_a_code_of_the_table(kind: type[ApiError]) -> None:
    code = close_code(kind("wrong"))
    assert code in CODES
    assert (code == 1011) == ((kind.status >= 500 and kind.status not in (503, 504)) or kind.status in NOT_OF_STREAMS)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (EngineFailedError("x"), 1011),
        (QueueFullError("x"), 1013),
        *((kind("x"), 1012) for kind in (ShuttingDownError, EngineHungError, ModelReplacedError)),
    ],
)
def test_whether_to_come_back(error: ApiError, code: int) -> None:
    assert close_code(error) == code


def test_the_message_is_the_envelope() -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(close_with(send, QueueFullError("full", "model")))
    [text, close] = sent
    error = {"message": "full", "type": "rate_limit_error", "param": "model", "code": "queue_full"}
    assert json.loads(text["text"]) == {"type": "error", "error": error}
    assert (close["code"], close["reason"]) == (1013, "queue_full")


def test_nobody_is_left() -> None:
    async def send(message: Message) -> None:
        raise ConnectionResetError

    asyncio.run(close_with(send, ApiError("wrong")))


def test_reasons_fit_into_a_frame() -> None:
    assert max(len(kind.code) for kind in all_errors()) <= 123
