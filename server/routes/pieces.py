"""An answer that is made while it is sent, piece by piece; a client that reads slowly holds it back.

What goes wrong once it has begun cannot be told any more: the connection breaks off, before the length that was stated
or the chunk that ends the body, so that no client takes the answer for complete.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from server.errors import ApiError

logger = logging.getLogger(__name__)


class Sender:
    """Sends one answer."""

    def __init__(self, send: Send) -> None:
        self.begun = False
        self._send = send

    async def begin(self, media: str, length: int | None, headers: Mapping[str, str]) -> None:
        """Send the head; `length` is that of the body, if it is known."""
        head = Response(headers=headers, media_type=media)
        del head.headers["content-length"]
        if length is not None:
            head.headers["content-length"] = str(length)
        self.begun = True
        await self._send({"type": "http.response.start", "status": head.status_code, "headers": head.raw_headers})

    async def piece(self, data: bytes) -> None:
        """Send a piece of the body, as soon as the client has read most of those before."""
        if data:
            await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self) -> None:
        """End the body."""
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})


class Pieces(Response):
    """What `make` sends, or the answer that it returns where it sends nothing.

    All of `make` runs where the answer is sent, so that what it holds, it holds as long as that takes, and a client
    that leaves cancels it. An error before it sends is an answer of its own.
    """

    def __init__(self, make: Callable[[Sender], Awaitable[Response | None]]) -> None:
        self._make = make
        self.status_code = 200
        self.background = None
        self.raw_headers = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        sender = Sender(send)
        try:
            response = await self._make(sender)
        except ApiError as error:
            if not sender.begun:
                raise
            logger.error("an answer that had begun breaks off with %s: %s", error.code, error.message)
            return
        if response is not None:
            await response(scope, receive, send)
        else:
            await sender.end()
