"""An ASGI application, called without a server."""

import asyncio
import selectors
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from starlette.types import ASGIApp, Message

T = TypeVar("T")


class _Hurry(selectors.DefaultSelector):
    """Waits for nothing: its time is then."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.now += timeout or 0.0
        return super().select(0)


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._hurry = _Hurry()
        super().__init__(self._hurry)

    def time(self) -> float:
        return self._hurry.now


def hurried(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run what neither has threads nor talks to others, in a time that passes only where all wait for it."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(coroutine)


async def call(
    app: ASGIApp, receive: Callable[[], Awaitable[Message]], headers: dict[str, str] | None = None
) -> list[Message]:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    raw = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    scope = {"type": "http", "method": "POST", "path": "/", "headers": raw, "query_string": b""}
    await asyncio.wait_for(app(scope, receive, send), 5)
    return sent


def arriving(*chunks: bytes, then: str = "wait") -> Callable[[], Awaitable[Message]]:
    """Receive `chunks` as a body; after it the client stays, or leaves."""
    messages: list[Any] = [
        {"type": "http.request", "body": chunk, "more_body": index < len(chunks) - 1}
        for index, chunk in enumerate(chunks)
    ]

    async def receive() -> Message:
        if messages:
            message: Message = messages.pop(0)
            return message
        if then == "wait":
            await asyncio.sleep(60)
        await asyncio.sleep(0.01)
        return {"type": "http.disconnect"}

    return receive


def headers_of(sent: list[Message]) -> dict[bytes, bytes]:
    return dict(sent[0]["headers"])
