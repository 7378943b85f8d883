"""Connections: how long a client may take for the head of a request and for reading an answer, and how many there are.

uvicorn itself closes a connection that is idle between two requests, and nothing else: one that sends a head byte by
byte, or does not read its answer, would be kept for ever. The time of a body is the concern of server.http.body.

What is refused here has no handler, or a handler that waits for a body that will not come: it is answered after the
requests before it, and the connection is closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from http import HTTPStatus

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from server.errors import (
    ApiError,
    HeadTimeoutError,
    HeadTooLargeError,
    RequestError,
    TooManyConnectionsError,
    TransferEncodingError,
)
from server.http.envelope import envelope
from server.settings import Settings

# What is sent besides the body: the request line, headers, and the frames of chunks. Proxies send some kilobytes;
# others limit it to between 8 (nginx, Apache) and 64 KiB (h11).
MAX_HEAD_BYTES = 64 * 1024
# Of a Content-Length: what a number of 64 bits has.
MAX_LENGTH_DIGITS = 19
RETRY_SECONDS = 1
# It is looked so often in `send_timeout` whether a client reads.
LOOKS = 4


def guarded(settings: Settings) -> type[Connection]:
    """Return the protocol that uvicorn is to make for each connection."""

    class Guarded(Connection):
        header_timeout = settings.header_timeout
        send_timeout = settings.send_timeout
        max_connections = settings.max_connections

    return Guarded


class Connection(HttpToolsProtocol):
    """A connection that ends when its client stalls."""

    header_timeout: float  # seconds from the first byte of a head, or from the connection, to the end of the head
    send_timeout: float  # seconds in which the client reads nothing of what waits for it
    max_connections: int

    _head_timer: asyncio.TimerHandle | None = None
    _send_timer: asyncio.TimerHandle | None = None
    _unread = 0  # bytes that waited for the client when it was looked last
    _looks = 0  # since it has read any
    _in_body = False
    _upgraded = False
    _unanswered = 0  # requests whose head is there, and whose answer is not complete
    _bad_head: ApiError | None = None
    _refusal: ApiError | None = None  # waits for the answers before it
    _body_bytes = 0
    _other_bytes = 0  # of the request besides its body

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Begin to wait for a request; refuse to, where there are connections enough."""
        super().connection_made(transport)
        self._look_later()
        if len(self.connections) > self.max_connections:
            message = f"there are {self.max_connections} connections, as many as are taken"
            self._refuse(TooManyConnectionsError(message, retry_after=RETRY_SECONDS))
        else:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timers."""
        self._stop_head_timer()
        self._stop_send_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser, as long as the head stays within its bounds."""
        if self._refusal is not None:
            return
        if not self._in_body and self._head_timer is None:
            self._await_head()
        self._other_bytes += len(data)  # the parser tells what of it was body
        super().data_received(data)
        if self._upgraded:
            return
        if self._other_bytes > MAX_HEAD_BYTES + self._body_bytes and not self.transport.is_closing():
            self._refuse(HeadTooLargeError(f"the head of the request is larger than {MAX_HEAD_BYTES} bytes"))

    def on_message_begin(self) -> None:
        """Take note of a new request; what came before it in the same bytes is not counted."""
        self._body_bytes = self._other_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Take note that the head is there; refuse what cannot be told of the length of the body."""
        self._stop_head_timer()
        upgrades = self.parser.should_upgrade() and self._should_upgrade()
        self._bad_head = _problem(self.headers)
        if upgrades and self._unanswered > 0:  # the answers would come between the frames
            self._bad_head = RequestError("a WebSocket begins on a connection that owes no answer")
        if upgrades and any(name in (b"content-length", b"transfer-encoding") for name, _ in self.headers):
            self._bad_head = RequestError("a request for a WebSocket has no body")
        if self._bad_head is not None:
            raise self._bad_head  # the parser ends, and send_400_response is called
        super().on_headers_complete()
        if not upgrades:
            self._in_body = True
            self._unanswered += 1

    def handle_websocket_upgrade(self) -> None:
        """Leave the connection to server.http.websocket, with its own guards."""
        self._upgraded = True
        self._stop_head_timer()
        self._stop_send_timer()
        super().handle_websocket_upgrade()

    def on_body(self, body: bytes) -> None:
        """Take note of what is not head."""
        self._body_bytes += len(body)
        self._other_bytes -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Take note that what follows is the next head."""
        self._in_body = False
        super().on_message_complete()

    def resume_writing(self) -> None:
        """Take note that the client reads."""
        super().resume_writing()
        self._looks = 0

    def on_response_complete(self) -> None:
        """Answer what is refused behind it."""
        super().on_response_complete()
        self._unanswered -= 1
        if self._refusal is not None and self._unanswered == 0 and not self.transport.is_closing():
            self._close_with(self._refusal)

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP."""
        self._refuse(self._bad_head or RequestError(msg))

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(self.header_timeout, self._head_is_late)

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self.cycle is not None and not self.cycle.response_complete:
            self._await_head()  # the beginning of the next request, while the answer to this one is made
        elif not self.transport.is_closing():
            self._refuse(HeadTimeoutError(f"the head of the request did not arrive within {self.header_timeout:g} s"))

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _look_later(self) -> None:
        self._send_timer = self.loop.call_later(self.send_timeout / LOOKS, self._look)

    def _look(self) -> None:
        """Cut a client off that reads nothing of what it must read, so that more can be sent or the connection ends."""
        must_read = self.flow.write_paused or self.transport.is_closing()
        unread = self.transport.get_write_buffer_size() if must_read else 0
        self._looks = self._looks + 1 if must_read and unread >= self._unread else 0
        self._unread = unread
        if self._looks > LOOKS:
            self.transport.abort()
        else:
            self._look_later()

    def _stop_send_timer(self) -> None:
        if self._send_timer is not None:
            self._send_timer.cancel()
            self._send_timer = None

    def _refuse(self, error: ApiError) -> None:
        """Answer in place of the request that arrives, once those before it have their answers, and close."""
        if self._refusal is not None or self.transport.is_closing():
            return
        if self._in_body:
            self.cycle.disconnected = True  # its handler has nobody to answer
            self.cycle.message_event.set()
            self._unanswered -= 1
            if self._unanswered > 0:
                self.pipeline.popleft()
        if self._unanswered > 0:
            self._refusal = error
        elif self._in_body and self.cycle.response_started:
            self.transport.close()  # its answer came before its body
        else:
            self._close_with(error)

    def _close_with(self, error: ApiError) -> None:
        self.transport.write(last_answer(error))
        self.transport.close()


def last_answer(error: ApiError) -> bytes:
    """Return the answer for `error` as it is sent, by which the connection closes."""
    response = envelope(error)
    headers = [*response.raw_headers, (b"connection", b"close")]
    lines = [f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}".encode()]
    lines += [name + b": " + value for name, value in headers]
    return b"\r\n".join([*lines, b"", bytes(response.body)])


def _problem(headers: Sequence[tuple[bytes, bytes]]) -> ApiError | None:
    """Return what is wrong with what a head says of its body, beyond what the parser sees."""
    encodings = [value.strip().lower() for name, value in headers if name == b"transfer-encoding"]
    if encodings not in ([], [b"chunked"]):
        return TransferEncodingError("the only Transfer-Encoding that is understood is chunked")
    if any(len(value) > MAX_LENGTH_DIGITS for name, value in headers if name == b"content-length"):
        return RequestError(f"the Content-Length has more than {MAX_LENGTH_DIGITS} digits")
    return None
