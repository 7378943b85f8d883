"""The end of the process, as the application sees it: what it still owes an answer, and what it no longer takes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.errors import ShuttingDownError, envelope

# Whoever is refused may find another server at once, or this one when it has started again.
RETRY_SECONDS = 1
# For the rest of a body that is not wanted: a connection closed with unread bytes is reset, and the answer lost.
LINGER_SECONDS = 1.0
# What asks for nothing that takes long is answered until the end: the state and the metrics of a server that drains.
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class Lifecycle:
    """Whether the process is about to end, and the requests that it finishes before."""

    def __init__(self) -> None:
        self.is_ending = False
        self.is_over = False  # what is not answered by now will not be
        self.admitted: set[asyncio.Task[object]] = set()
        # Told the model whose engine does not come back from a call, and the seconds; the process sets it.
        self.on_hung: Callable[[str, float], None] = lambda name, seconds: None

    def end(self) -> None:
        """Admit no more requests. Safe to call from a signal's handler."""
        self.is_ending = True

    def cut_off(self) -> None:
        """Have the requests that are left answered 503."""
        self.is_over = True
        for task in self.admitted:
            task.cancel()


class Admission:
    """Refuses requests once the process is about to end; those from before are finished, or cut off at its end.

    Every answer after that is its connection's last, so that the client connects to another server.
    """

    def __init__(self, app: ASGIApp, lifecycle: Lifecycle) -> None:
        self._app = app
        self._lifecycle = lifecycle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application inside."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answered = False

        async def send_last(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = True
                if self._lifecycle.is_ending:
                    MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        if scope["method"] in SAFE_METHODS:
            await self._app(scope, receive, send_last)
            return
        if self._lifecycle.is_ending:
            await _pass_over(receive)
            await _refuse(scope, receive, send_last)
            return
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # every request has its own
        self._lifecycle.admitted.add(task)
        try:
            await self._app(scope, receive, send_last)
        except asyncio.CancelledError:
            if answered or not self._lifecycle.is_over:
                raise
            task.uncancel()
            await _refuse(scope, receive, send_last)
        finally:
            self._lifecycle.admitted.discard(task)


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    error = ShuttingDownError("the server is shutting down", retry_after=RETRY_SECONDS)
    await envelope(error)(scope, receive, send)


async def _pass_over(receive: Receive) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            while (await receive()).get("more_body", False):
                pass
