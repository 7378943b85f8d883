"""How a WebSocket ends: the envelope of the error as a message, then a close code that says what kind it is.

What is refused before the connection is open, such as a key that is not valid, is answered as HTTP.

| code | when | its errors have the status |
|---|---|---|
| 1000 | all is done | |
| 1003 | the message is of a kind that is not read, such as audio before the options | 415 |
| 1007 | the message cannot be understood, or an option or the audio cannot be used | 400, 422 |
| 1008 | not allowed, or there is no such model | 401, 403, 404 |
| 1009 | too large: a message, or the stream itself | 413 |
| 1011 | the server or the engine failed | 500, 507 |
| 1012 | the server restarts, or the model is replaced: connect again | 503 shutting_down, engine_hung, model_replaced |
| 1013 | too much to do, or the model is not ready: try again later | 429, other 503, 504 |
| 4408 | the client has sent no audio for too long | 408 |
"""

from __future__ import annotations

from starlette.types import Send

from server.errors import ApiError, EngineHungError, ModelReplacedError, ShuttingDownError
from server.http.envelope import envelope

DONE, INTERNAL_ERROR, RESTART = 1000, 1011, 1012
# Of errors by their status; the codes from 4000 on are an application's own.
CODES = {400: 1007, 422: 1007, 415: 1003, 401: 1008, 403: 1008, 404: 1008, 408: 4408, 413: 1009}
CODES |= {429: 1013, 503: 1013, 504: 1013}


def close_code(error: ApiError) -> int:
    """Return the close code of `error`."""
    if isinstance(error, ShuttingDownError | EngineHungError | ModelReplacedError):
        return RESTART
    return CODES.get(error.status, INTERNAL_ERROR)


async def close_with(send: Send, error: ApiError) -> None:
    """Send `error` as a message, its type "error" beside the envelope, and close. Nobody may be left to read it."""
    body = bytes(envelope(error).body).decode()
    try:
        await send({"type": "websocket.send", "text": f'{{"type":"error",{body[1:]}'})
        # The reason has at most 123 bytes (RFC 6455, 5.5): the code of an error is one word.
        await send({"type": "websocket.close", "code": close_code(error), "reason": error.code})
    except OSError:  # of the connection
        return
