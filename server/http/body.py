"""The body of a request: its bounds, and the end of a handler whose client left."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.errors import ApiError, BodyTimeoutError, BodyTooLargeError
from server.http.envelope import envelope
from server.memory import Hold, Memory
from server.settings import Settings
from server.spool import MAX_UPLOAD_BYTES_IN_MEMORY

# For the rest of a body that is not wanted: a connection closed with unread bytes is reset, and the answer lost.
LINGER_SECONDS = 1.0
# And not for more of it than that: in a second, a client that sends all before it reads sends a gigabyte.
LINGER_BYTES = 20 * 1024 * 1024
MULTIPART, JSON, BYTES = "multipart/form-data", "application/json", "application/octet-stream"


def media_type(headers: Headers) -> str:
    """Return the media type of a body; one without may be taken for octets (RFC 9110, 8.3)."""
    return headers.get("content-type", BYTES).partition(";")[0].strip().lower()


def is_spooled(media: str) -> bool:
    """Return whether a body of the type `media` goes to the disk where it is large."""
    return media in (MULTIPART, BYTES) or media.startswith("audio/")


@dataclass(frozen=True)
class BodyLimits:
    """What bodies may take: bytes, of which those `in_memory` are of all requests together, and seconds."""

    max_bytes: int  # of a form, or of audio as it is
    max_json_bytes: int  # of any other, which is read in memory
    in_memory: float
    timeout: float  # without a byte, and for all of it beside what `rate` allows
    rate: float  # bytes for which there is a second more

    @classmethod
    def of(cls, settings: Settings) -> BodyLimits:
        """Return those that are set."""
        return cls(
            settings.max_body_bytes,
            settings.max_json_bytes,
            settings.body_bytes_in_flight,
            settings.body_timeout,
            settings.body_rate,
        )


class BodyGuard:
    """Bounds the bytes and the time of each body, and cancels a handler whose client left.

    A body that states too large a length is refused before a byte of it is read; one that states none is counted as
    it arrives. Who writes it to the disk gives its bytes back: they stand in `request.state.body_hold`.
    """

    def __init__(self, app: ASGIApp, limits: BodyLimits, disk: Memory) -> None:
        """`disk` is the account of what is written to the disk: what would not fit there is refused as early."""
        self._app = app
        self._limits = limits
        self._memory = Memory("request bodies", limits.in_memory)
        self._disk = disk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application inside."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        hold = self._memory.hold()
        body = _Body(scope, receive, send, hold, self._limits)
        try:
            body.check(self._memory, self._disk)
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


class _Body:
    """The body of one request, as it arrives."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, hold: Hold, limits: BodyLimits) -> None:
        headers = Headers(scope=scope)
        self._is_spooled = is_spooled(media_type(headers))
        self.client_left = False
        self._stated_length = int(headers.get("content-length", 0))  # uvicorn lets digits pass only
        self._max_bytes = limits.max_bytes if self._is_spooled else limits.max_json_bytes
        self._state: dict[str, Any] = scope.setdefault("state", {})
        self._state["body_hold"] = hold
        self._receive = receive
        self._send = send
        self._hold = hold
        self._limits = limits
        self._seconds_left = limits.timeout  # of waiting for the client
        self._received = 0
        self._pending = self._stated_length > 0 or "transfer-encoding" in headers
        self._handler = asyncio.current_task()
        self._watcher: asyncio.Task[None] | None = None

    def check(self, memory: Memory, disk: Memory) -> None:
        """Refuse a body that would not fit. It takes its place as it arrives, so that nobody holds it by promises."""
        if self._stated_length > self._max_bytes:
            raise self._too_large()
        goes_to_disk = self._is_spooled and self._stated_length > MAX_UPLOAD_BYTES_IN_MEMORY
        (disk if goes_to_disk else memory).check(self._stated_length)

    async def receive(self) -> Message:
        """Return the next message. Raises BodyTooLargeError, BodyTimeoutError and MemoryFullError."""
        if not self._pending:
            return await self._receive()
        message = await self._next_in_time()
        size = len(message.get("body", b""))
        self._received += size
        self._state["received_bytes"] = self._received
        if self._received > self._max_bytes:
            raise self._too_large()
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

    async def _next_in_time(self) -> Message:
        """Wait for the client; its time grows with what it sends, but it cannot save it for a pause later."""
        limits, now = self._limits, asyncio.get_running_loop().time
        started = now()
        try:
            async with asyncio.timeout(self._seconds_left):
                message = await self._receive()
        except TimeoutError:
            allowed = f"{limits.timeout:g} s and 1 s for each {limits.rate:g} bytes"
            raise BodyTimeoutError(f"the body did not arrive in time: it may take {allowed}") from None
        earned = len(message.get("body", b"")) / limits.rate
        self._seconds_left = min(self._seconds_left - (now() - started) + earned, limits.timeout)
        return message

    def _too_large(self) -> BodyTooLargeError:
        return BodyTooLargeError(f"the body is larger than {self._max_bytes} bytes")

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
