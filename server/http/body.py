"""The body of a request: its bounds, and the end of a handler whose client left."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.errors import ApiError, BodyTimeoutError, BodyTooLargeError
from server.http.envelope import envelope
from server.memory import Hold, Memory

# For the rest of a body that is not wanted: a connection closed with unread bytes is reset, and the answer lost.
LINGER_SECONDS = 1.0
# And not for more of it than that: in a second, a client that sends all before it reads sends a gigabyte.
LINGER_BYTES = 20 * 1024 * 1024


class BodyGuard:
    """Bounds the bytes and the time of each body, and cancels a handler whose client left.

    A body that states too large a length is refused before a byte of it is read; one that states none is counted as
    it arrives.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, timeout: float, max_bytes_in_flight: float = math.inf) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._timeout = timeout
        self._memory = Memory("request bodies", max_bytes_in_flight)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application inside."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        hold = self._memory.hold()
        body = _Body(scope, receive, send, hold, self._max_bytes, self._timeout)
        try:
            self._check(body.stated_length)
        except ApiError as error:
            await envelope(error)(scope, body.receive, body.send)
            return
        try:
            await self._app(scope, body.receive, body.send)
        except ClientDisconnect:  # left while it sent the body
            return
        except asyncio.CancelledError:
            if not body.client_left:
                raise
        finally:
            body.stop_watching()
            hold.release()

    def _check(self, stated_length: int) -> None:
        """Refuse a body that would not fit. It takes its place as it arrives, so that nobody holds it by promises."""
        if stated_length > self._max_bytes:
            raise _too_large(self._max_bytes)
        self._memory.check(stated_length)


class _Body:
    """The body of one request, as it arrives."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, hold: Hold, max_bytes: int, timeout: float) -> None:
        headers = Headers(scope=scope)
        self.stated_length = int(headers.get("content-length", 0))  # uvicorn lets digits pass only
        self.client_left = False
        self._state: dict[str, Any] = scope.setdefault("state", {})
        self._receive = receive
        self._send = send
        self._hold = hold
        self._max_bytes = max_bytes
        self._timeout = timeout
        self._deadline = asyncio.get_running_loop().time() + timeout
        self._received = 0
        self._pending = self.stated_length > 0 or "transfer-encoding" in headers
        self._handler = asyncio.current_task()
        self._watcher: asyncio.Task[None] | None = None

    async def receive(self) -> Message:
        """Return the next message. Raises BodyTooLargeError, BodyTimeoutError and MemoryFullError."""
        if not self._pending:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            raise BodyTimeoutError(f"the body did not arrive within {self._timeout:g} s") from None
        size = len(message.get("body", b""))
        self._received += size
        self._state["received_bytes"] = self._received
        if self._received > self._max_bytes:
            raise _too_large(self._max_bytes)
        self._hold.take(size)
        if message["type"] == "http.request" and not message.get("more_body", False):
            self._pending = False
            self._watcher = asyncio.create_task(self._watch())
        return message

    async def send(self, message: Message) -> None:
        """Send `message`; an answer that comes before the whole body is the connection's last."""
        if message["type"] == "http.response.start" and self._pending:
            MutableHeaders(scope=message)["Connection"] = "close"
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self.stop_watching()  # uvicorn says "disconnect" once the answer is complete
            if self._pending:
                await self._send({**message, "more_body": True})
                await pass_over(self._receive)
                message = {"type": "http.response.body"}
        await self._send(message)

    def stop_watching(self) -> None:
        """Take no more notice of whether the client leaves."""
        if self._watcher is not None:
            self._watcher.cancel()

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.client_left = True
        if self._handler is not None:
            self._handler.cancel()


async def pass_over(receive: Receive) -> None:
    """Wait for the rest of a body that nobody wants, but not for long."""
    received, more = 0, True
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            while more and received < LINGER_BYTES:
                message = await receive()
                received += len(message.get("body", b""))
                more = message.get("more_body", False)


def _too_large(max_bytes: int) -> BodyTooLargeError:
    return BodyTooLargeError(f"the body is larger than {max_bytes} bytes")
