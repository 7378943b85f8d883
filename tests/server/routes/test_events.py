import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.responses import Response
from starlette.types import Message

from server.errors import DeadlineError, OptionError
from server.routes.events import Emit, Events, event
from tests.server.http.asgi import arriving, call, headers_of

Make = Callable[[Emit], Awaitable[Response | None]]


def sent(make: Make) -> list[Message]:
    return asyncio.run(call(Events(make), arriving(b"")))


def body(messages: list[Message]) -> bytes:
    return b"".join(message["body"] for message in messages[1:])


def errors(messages: list[Message]) -> list[dict[str, Any]]:
    events = body(messages).split(b"\n\n")
    return [json.loads(one.removeprefix(b"data: "))["error"] for one in events if b"error" in one]


def test_events_are_sent_as_they_come() -> None:
    async def make(emit: Emit) -> None:
        await emit(event(b'{"a":1}'))
        await emit(event(b"2") + event(b"3"))

    messages = sent(make)
    assert messages[0]["status"] == 200
    headers = headers_of(messages)
    assert headers[b"content-type"] == b"text/event-stream; charset=utf-8"
    assert headers[b"cache-control"] == b"no-store"
    assert b"content-length" not in headers
    assert [message["body"] for message in messages[1:]] == [b'data: {"a":1}\n\n', b"data: 2\n\ndata: 3\n\n", b""]
    assert [message["more_body"] for message in messages[1:]] == [True, True, False]


def test_without_events_it_is_another_answer() -> None:
    async def make(emit: Emit) -> Response:
        return Response(b"whole", 201)

    messages = sent(make)
    assert messages[0]["status"] == 201
    assert body(messages) == b"whole"


def test_an_error_before_the_first_event_is_raised() -> None:
    async def make(emit: Emit) -> None:
        raise OptionError("no", "option")

    with pytest.raises(OptionError):
        sent(make)


def test_a_later_error_is_the_last_event(caplog: pytest.LogCaptureFixture) -> None:
    async def make(emit: Emit) -> None:
        await emit(event(b"1"))
        raise DeadlineError("too late", "timeout")

    messages = sent(make)
    assert errors(messages) == [
        {"message": "too late", "type": "timeout_error", "param": "timeout", "code": "deadline_exceeded"}
    ]
    assert messages[-1] == {"type": "http.response.body", "body": b"", "more_body": False}
    assert "deadline_exceeded" in caplog.text


def test_what_is_wrong_inside_stays_inside(caplog: pytest.LogCaptureFixture) -> None:
    async def make(emit: Emit) -> None:
        await emit(event(b"1"))
        raise KeyError("secret")

    with caplog.at_level(logging.ERROR):
        [error] = errors(sent(make))
    assert error["code"] == "internal_error"
    assert "secret" not in error["message"]
    assert "secret" in caplog.text


def test_who_leaves_ends_it() -> None:
    ended = []

    async def make(emit: Emit) -> None:
        try:
            await emit(event(b"1"))
            await asyncio.sleep(60)
        finally:
            ended.append(True)

    async def leave() -> None:
        task = asyncio.create_task(call(Events(make), arriving(b"")))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(leave())
    assert ended
