"""An answer of server-sent events: it is made while it is sent (https://html.spec.whatwg.org/#server-sent-events)."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial

from starlette.responses import Response

from server.errors import ApiError
from server.http.envelope import envelope
from server.routes.pieces import Pieces, Sender

logger = logging.getLogger(__name__)

EVENTS = "text/event-stream"
# Neither a cache nor a proxy keeps events back: the second is nginx's own.
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}

# Sends events, as `event` writes them.
Emit = Callable[[bytes], Awaitable[None]]


class Events(Pieces):
    """What `make` emits, or the answer that it returns where it emits nothing.

    An error after the first event is the last event, with the envelope of every error.
    """

    def __init__(self, make: Callable[[Emit], Awaitable[Response | None]]) -> None:
        super().__init__(partial(_emit, make))


async def _emit(make: Callable[[Emit], Awaitable[Response | None]], sender: Sender) -> Response | None:
    async def emit(events: bytes) -> None:
        if not sender.begun:
            await sender.begin(EVENTS, None, HEADERS)
        await sender.piece(events)

    try:
        return await make(emit)
    except Exception as error:
        if not sender.begun:
            raise
        await emit(event(bytes(envelope(_known(error)).body)))
        return None


def event(data: bytes) -> bytes:
    """Return `data`, which is one line, as it is sent."""
    return b"data: " + data + b"\n\n"


def _known(error: Exception) -> ApiError:
    """Return what the client is told of `error`; the log has the rest."""
    if isinstance(error, ApiError):
        logger.warning("an answer that had begun ends with %s: %s", error.code, error.message)
        return error
    logger.error("an answer that had begun ends with an error", exc_info=error)
    return ApiError("internal error; the server's log has it")
