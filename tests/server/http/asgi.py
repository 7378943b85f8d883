"""An ASGI application, called without a server."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.types import ASGIApp, Message


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
