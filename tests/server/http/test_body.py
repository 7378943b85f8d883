import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.errors import BodyTimeoutError, BodyTooLargeError, MemoryFullError
from server.http.body import BodyGuard
from tests.server.http.asgi import arriving, call, headers_of
from tests.server.process import serving


async def read_all(scope: Scope, receive: Receive, send: Send) -> None:
    body = await Request(scope, receive).body()
    await PlainTextResponse(str(len(body)))(scope, receive, send)


CHUNKED = {"transfer-encoding": "chunked"}


def test_a_body_within_the_limit_passes() -> None:
    guard = BodyGuard(read_all, max_bytes=10, timeout=5)
    sent = asyncio.run(call(guard, arriving(b"12345", b"67890"), CHUNKED))
    assert sent[1]["body"] == b"10"
    assert b"connection" not in headers_of(sent)


def test_a_body_is_counted_as_it_arrives() -> None:
    guard = BodyGuard(read_all, max_bytes=10, timeout=5)
    with pytest.raises(BodyTooLargeError):
        asyncio.run(call(guard, arriving(b"12345", b"678901", b"more"), CHUNKED))


def test_a_stated_length_is_refused_before_the_application_runs() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError

    sent = asyncio.run(call(BodyGuard(app, max_bytes=10, timeout=5), arriving(b""), {"content-length": "11"}))
    assert sent[0]["status"] == 413
    assert headers_of(sent)[b"connection"] == b"close"


def test_a_slow_body_times_out() -> None:
    async def receive() -> Message:
        await asyncio.sleep(0.04)
        return {"type": "http.request", "body": b"1", "more_body": True}

    with pytest.raises(BodyTimeoutError):
        asyncio.run(call(BodyGuard(read_all, max_bytes=10_000, timeout=0.2), receive, CHUNKED))


def test_the_time_of_the_body_does_not_bound_the_handler() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await Request(scope, receive).body()
        await asyncio.sleep(0.3)
        await PlainTextResponse("done")(scope, receive, send)

    sent = asyncio.run(call(BodyGuard(app, max_bytes=10, timeout=0.1), arriving(b"1"), CHUNKED))
    assert sent[1]["body"] == b"done"


def test_an_answer_before_the_whole_body_closes_the_connection() -> None:
    sent = asyncio.run(call(BodyGuard(PlainTextResponse("early"), 10, 5), arriving(b"1"), CHUNKED))
    assert headers_of(sent)[b"connection"] == b"close"


def test_a_handler_whose_client_left_is_cancelled() -> None:
    ended = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await Request(scope, receive).body()
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(True)

    started = time.monotonic()
    sent = asyncio.run(call(BodyGuard(app, max_bytes=10, timeout=5), arriving(b"1", then="leave"), CHUNKED))
    assert time.monotonic() - started < 2
    assert ended == [True]
    assert sent == []


def test_a_client_that_leaves_while_it_sends() -> None:
    messages: list[Message] = [{"type": "http.request", "body": b"1", "more_body": True}, {"type": "http.disconnect"}]

    async def receive() -> Message:
        return messages.pop(0)

    assert asyncio.run(call(BodyGuard(read_all, max_bytes=10, timeout=5), receive, CHUNKED)) == []


def test_a_cancellation_from_outside_passes_through() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(call(BodyGuard(app, max_bytes=10, timeout=5), arriving(b"1")))


def test_a_slow_client_of_the_real_server(models: Any) -> None:
    with serving(models, defaults={"encode": "tiny-base"}, body_timeout=0.5) as server, server.connect() as connection:
        connection.sendall(
            b"POST /v1/encode HTTP/1.1\r\nHost: x\r\nContent-Type: audio/wav\r\nContent-Length: 5000\r\n\r\nRIFF"
        )
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 408")
        assert b"body_timeout" in answer
        assert server.client.get("/health/ready").status_code == 200


def test_the_answer_to_a_large_body_is_not_lost(tmp_path: Path) -> None:
    """A connection that is closed with unread bytes is reset, and the client may not see why."""
    with serving(tmp_path, wait=False, max_body_bytes=100) as server:
        for _ in range(5):
            assert server.client.post("/v1/encode", content=bytes(20_000_000)).status_code == 413


def test_a_body_that_does_not_fit_beside_the_others_is_429() -> None:
    reading = asyncio.Event()

    async def wait(scope: Scope, receive: Receive, send: Send) -> None:
        await Request(scope, receive).body()
        reading.set()
        await asyncio.sleep(60)

    async def run(headers: dict[str, str], app: ASGIApp) -> list[Message]:
        holding = asyncio.create_task(call(guard_of(wait), arriving(b"1234567"), CHUNKED))
        await reading.wait()
        try:
            return await call(guard_of(app), arriving(b"1234"), headers)
        finally:
            holding.cancel()
            await asyncio.wait([holding])
            assert (await call(guard_of(read_all), arriving(b"1234"), headers))[1]["body"] == b"4"

    def guard_of(app: ASGIApp) -> BodyGuard:
        guard._app = app
        return guard

    guard = BodyGuard(read_all, max_bytes=10, timeout=5, max_bytes_in_flight=10)
    sent = asyncio.run(run({"content-length": "4"}, PlainTextResponse("never")))
    assert sent[0]["status"] == 429
    assert headers_of(sent)[b"retry-after"] == b"1"
    assert b"memory_full" in sent[1]["body"]
    reading = asyncio.Event()
    with pytest.raises(MemoryFullError):  # which the application turns into an answer
        asyncio.run(run(CHUNKED, read_all))
