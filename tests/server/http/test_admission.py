import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.http.admission import Admission
from server.process import Lifecycle


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    while (await receive()).get("more_body", False):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body"})


class Slow:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.begun, self.go = asyncio.Event(), asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.begun.set()
        await self.go.wait()
        await echo(scope, receive, send)


def client(app: ASGIApp) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x")


def run(test: Callable[[], Awaitable[Any]]) -> None:
    async def limited() -> None:
        await asyncio.wait_for(test(), 20)

    asyncio.run(limited())


def test_what_is_new_is_refused_and_what_is_safe_is_answered() -> None:
    async def test() -> None:
        lifecycle = Lifecycle()
        async with client(Admission(echo, lifecycle)) as http:
            response = await http.post("/", content=b"x")
            assert (response.status_code, "connection" in response.headers) == (200, False)
            lifecycle.end()
            response = await http.post("/", content=b"x")
            assert response.status_code == 503
            assert response.json()["error"]["code"] == "shutting_down"
            assert int(response.headers["Retry-After"]) >= 1
            assert response.headers["Connection"] == "close"
            response = await http.get("/")
            assert (response.status_code, response.headers["Connection"]) == (200, "close")
        assert not lifecycle.admitted

    run(test)


@pytest.mark.parametrize("cut_off", [False, True])
def test_what_was_admitted_is_finished_or_cut_off(cut_off: bool) -> None:
    async def test() -> None:
        lifecycle, slow = Lifecycle(), Slow()
        async with client(Admission(slow, lifecycle)) as http:
            request = asyncio.create_task(http.post("/"))
            await slow.begun.wait()
            lifecycle.end()
            assert len(lifecycle.admitted) == 1
            if cut_off:
                lifecycle.cut_off()
            else:
                slow.go.set()
            response = await request
        assert response.status_code == (503 if cut_off else 200)
        assert response.headers["Connection"] == "close"
        assert not lifecycle.admitted

    run(test)


def test_a_request_that_is_cancelled_for_another_reason_is_not_answered() -> None:
    async def test() -> None:
        lifecycle, slow = Lifecycle(), Slow()
        async with client(Admission(slow, lifecycle)) as http:
            request = asyncio.create_task(http.post("/"))
            await slow.begun.wait()
            request.cancel()
            with pytest.raises(asyncio.CancelledError):
                await request
        assert not lifecycle.admitted

    run(test)


def test_the_rest_of_a_body_that_is_refused_is_passed_over_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.http.body.LINGER_SECONDS", 0.05)

    async def test() -> None:
        lifecycle = Lifecycle()
        lifecycle.end()
        sent: list[dict[str, Any]] = []
        chunks = [{"type": "http.request", "body": b"x", "more_body": True}] * 3

        async def receive() -> dict[str, Any]:
            if not chunks:
                await asyncio.Event().wait()  # the client sends no more, and does not leave
            return chunks.pop()

        async def send(message: Any) -> None:
            sent.append(message)

        await Admission(echo, lifecycle)({"type": "http", "method": "POST"}, receive, send)
        assert not chunks
        assert sent[0]["status"] == 503

    run(test)


@pytest.mark.parametrize("is_open", [False, True])
def test_a_stream_that_is_cut_off_is_told_to_connect_again(is_open: bool) -> None:
    async def test() -> None:
        lifecycle, sent, begun = Lifecycle(), list[Message](), asyncio.Event()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if is_open:
                await send({"type": "websocket.accept"})
            begun.set()
            await asyncio.sleep(60)

        async def send(message: Message) -> None:
            sent.append(message)

        async def receive() -> Message:
            return {"type": "websocket.connect"}

        scope = {"type": "websocket", "extensions": {"websocket.http.response": {}}}
        stream = asyncio.ensure_future(Admission(app, lifecycle)(scope, receive, send))
        await begun.wait()
        assert lifecycle.admitted == {stream}
        lifecycle.end()
        lifecycle.cut_off()
        await stream
        if is_open:
            assert [message["type"] for message in sent] == ["websocket.accept", "websocket.send", "websocket.close"]
            assert (sent[-1]["code"], sent[-1]["reason"]) == (1012, "shutting_down")
        else:
            assert sent[0]["status"] == 503
        sent.clear()
        await Admission(app, lifecycle)(scope, receive, send)
        assert (sent[0]["type"], sent[0]["status"]) == ("websocket.http.response.start", 503)

    run(test)


def test_what_is_not_http_passes() -> None:
    async def test() -> None:
        seen: list[str] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            seen.append(scope["type"])

        lifecycle = Lifecycle()
        lifecycle.end()
        await Admission(app, lifecycle)({"type": "lifespan"}, None, None)  # type: ignore[arg-type]
        assert seen == ["lifespan"]

    run(test)
