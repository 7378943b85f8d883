"""What is still taken once the process is about to end, and what is still answered."""

from __future__ import annotations

import asyncio

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.errors import ShuttingDownError
from server.http.body import pass_over
from server.http.closing import close_with
from server.http.envelope import envelope
from server.process import Lifecycle

# Whoever is refused may find another server at once, or this one when it has started again.
RETRY_SECONDS = 1
# What asks for nothing that takes long is answered until the end: the state and the metrics of a server that drains.
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class Admission:
    """Refuses requests once the process is about to end; those from before are finished, or cut off at its end.

    A stream that is cut off is closed with the code that asks its client to connect again.

    Every answer after that is its connection's last, so that the client connects to another server.
    """

    def __init__(self, app: ASGIApp, lifecycle: Lifecycle) -> None:
        self._app = app
        self._lifecycle = lifecycle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application inside."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        answered = False

        async def send_last(message: Message) -> None:
            nonlocal answered
            answered = answered or message["type"] in ("http.response.start", "websocket.accept")
            if message["type"] == "http.response.start" and self._lifecycle.is_ending:
                MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        is_stream = scope["type"] == "websocket"
        if not is_stream and scope["method"] in SAFE_METHODS:
            await self._app(scope, receive, send_last)
            return
        error = ShuttingDownError("the server is shutting down", retry_after=RETRY_SECONDS)
        if self._lifecycle.is_ending:
            if not is_stream:
                await pass_over(receive)
            await envelope(error)(scope, receive, send_last)
            return
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # every request has its own
        self._lifecycle.admitted.add(task)
        try:
            await self._app(scope, receive, send_last)
        except asyncio.CancelledError:
            if not self._lifecycle.is_over or (answered and not is_stream):
                raise
            task.uncancel()
            if answered:
                await close_with(send, error)
            else:
                await envelope(error)(scope, receive, send_last)
        finally:
            self._lifecycle.admitted.discard(task)
