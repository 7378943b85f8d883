import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.errors import BodyTimeoutError, BodyTooLargeError, MemoryFullError
from server.http.body import BodyGuard, BodyLimits
from server.memory import Memory
from tests.server.http.asgi import arriving, call, headers_of, hurried
from tests.server.process import serving


async def read_all(scope: Scope, receive: Receive, send: Send) -> None:
    body = await Request(scope, receive).body()
    await PlainTextResponse(str(len(body)))(scope, receive, send)


CHUNKED = {"transfer-encoding": "chunked"}
JSON = CHUNKED | {"content-type": "application/json"}
LIMITS = BodyLimits(max_bytes=10, max_json_bytes=10, in_memory=math.inf, timeout=5, rate=1)


def guarded(app: ASGIApp, *, disk: float = math.inf, **limits: Any) -> BodyGuard:
    return BodyGuard(app, replace(LIMITS, **limits), Memory("audio on the disk", disk))


def test_a_body_within_the_limit_passes() -> None:
    guard = guarded(read_all)
    sent = hurried(call(guard, arriving(b"12345", b"67890"), CHUNKED))
    assert sent[1]["body"] == b"10"
    assert b"connection" not in headers_of(sent)


def test_a_body_is_counted_as_it_arrives() -> None:
    guard = guarded(read_all)
    with pytest.raises(BodyTooLargeError):
        hurried(call(guard, arriving(b"12345", b"678901", b"more"), CHUNKED))


def test_a_stated_length_is_refused_before_the_application_runs() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError

    sent = hurried(call(guarded(app), arriving(b""), {"content-length": "11"}))
    assert sent[0]["status"] == 413
    assert headers_of(sent)[b"connection"] == b"close"


def test_a_slow_body_times_out() -> None:
    async def receive() -> Message:
        await asyncio.sleep(0.04)
        return {"type": "http.request", "body": b"1", "more_body": True}

    with pytest.raises(BodyTimeoutError):
        hurried(call(guarded(read_all, max_bytes=10_000, timeout=0.2, rate=1000), receive, CHUNKED))


def arriving_slowly(pieces: int, pause: float) -> Callable[[], Awaitable[Message]]:
    """Receive `pieces` of ten bytes, with a pause before each."""
    left = pieces

    async def receive() -> Message:
        nonlocal left
        await asyncio.sleep(pause)
        left -= 1
        return {"type": "http.request", "body": bytes(10), "more_body": left > 0}

    return receive


def test_a_large_body_may_take_longer() -> None:
    guard = guarded(read_all, max_bytes=10_000, timeout=0.5, rate=10)  # a second more for each piece
    sent = hurried(call(guard, arriving_slowly(6, 0.2), CHUNKED))
    assert sent[1]["body"] == b"60"


def test_what_a_client_sends_fast_is_not_saved_for_a_pause() -> None:
    async def receive() -> Message:
        if fast:
            return fast.pop()
        await asyncio.sleep(60)
        raise AssertionError

    fast: list[Message] = [{"type": "http.request", "body": bytes(1000), "more_body": True}] * 5
    with pytest.raises(BodyTimeoutError):
        hurried(call(guarded(read_all, max_bytes=10_000, timeout=0.2, rate=1), receive, CHUNKED))


def test_the_time_that_the_handler_takes_is_not_the_clients() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async for _ in Request(scope, receive).stream():
            await asyncio.sleep(0.2)
        await PlainTextResponse("done")(scope, receive, send)

    guard = guarded(app, max_bytes=10_000, timeout=0.3, rate=1e9)
    assert hurried(call(guard, arriving_slowly(4, 0.01), CHUNKED))[1]["body"] == b"done"


def test_what_is_read_in_memory_has_a_limit_of_its_own() -> None:
    guard = guarded(read_all, max_bytes=100, max_json_bytes=10)
    assert hurried(call(guard, arriving(bytes(20)), CHUNKED))[1]["body"] == b"20"
    with pytest.raises(BodyTooLargeError, match="larger than 10 bytes"):
        hurried(call(guard, arriving(bytes(20)), JSON))
    refused = hurried(call(guard, arriving(b""), {"content-type": "application/json", "content-length": "11"}))
    assert refused[0]["status"] == 413


def test_a_large_upload_is_refused_before_it_is_sent_where_the_disk_is_full() -> None:
    guard = guarded(read_all, max_bytes=1 << 30, max_json_bytes=1 << 30, in_memory=1 << 22, disk=1 << 20)

    def status(length: int, media: str) -> int:
        headers = {"content-type": media, "content-length": str(length)}
        return int(hurried(call(guard, arriving(b""), headers))[0]["status"])

    for media in ("audio/wav", "multipart/form-data; boundary=x", "application/octet-stream"):
        assert status((1 << 20) + 1, media) == 429
        assert status(1 << 20, media) == 200  # stays in memory
    assert status(1 << 22, "application/json") == 200
    assert status((1 << 22) + 1, "application/json") == 429


def test_what_is_written_to_the_disk_is_given_back() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        async for data in request.stream():
            request.state.body_hold.take(-len(data))
        await PlainTextResponse(str(guard._memory.held))(scope, receive, send)

    guard = guarded(app, max_bytes=1000, in_memory=20)
    assert hurried(call(guard, arriving(*[bytes(20)] * 40), CHUNKED))[1]["body"] == b"0"


def test_the_time_of_the_body_does_not_bound_the_handler() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await Request(scope, receive).body()
        await asyncio.sleep(0.3)
        await PlainTextResponse("done")(scope, receive, send)

    sent = hurried(call(guarded(app, timeout=0.1), arriving(b"1"), CHUNKED))
    assert sent[1]["body"] == b"done"


def test_an_answer_before_the_whole_body_closes_the_connection() -> None:
    sent = hurried(call(guarded(PlainTextResponse("early")), arriving(b"1"), CHUNKED))
    assert headers_of(sent)[b"connection"] == b"close"


def test_a_handler_whose_client_left_is_cancelled() -> None:
    ended = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await Request(scope, receive).body()
        try:
            await asyncio.sleep(4)
        except asyncio.CancelledError:
            ended.append(True)
            raise

    sent = hurried(call(guarded(app), arriving(b"1", then="leave"), CHUNKED))
    assert ended == [True]
    assert sent == []


def test_a_client_that_leaves_while_it_sends() -> None:
    messages: list[Message] = [{"type": "http.request", "body": b"1", "more_body": True}, {"type": "http.disconnect"}]

    async def receive() -> Message:
        return messages.pop(0)

    assert hurried(call(guarded(read_all), receive, CHUNKED)) == []


def test_a_cancellation_from_outside_passes_through() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        hurried(call(guarded(app), arriving(b"1")))


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

    guard = guarded(read_all, in_memory=10)
    sent = hurried(run({"content-length": "4"}, PlainTextResponse("never")))
    assert sent[0]["status"] == 429
    assert headers_of(sent)[b"retry-after"] == b"1"
    assert b"memory_full" in sent[1]["body"]
    reading = asyncio.Event()
    with pytest.raises(MemoryFullError):  # which the application turns into an answer
        hurried(run(CHUNKED, read_all))
