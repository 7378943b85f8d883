"""WebSocket connections: bounded in what they hold, in what they keep the event loop from, and in who does not read.

uvicorn has three implementations. The one on the old interface of `websockets` is deprecated, wsproto would be one more
dependency; this one, on `websockets` without its own input and output, reads no more from a connection until the
application has taken the messages that are there. So a client that sends faster than its audio is worked on is slowed
down by TCP. What it does not bound is bounded here: frames that come in one piece, messages of countless parts, pings
whose answers nobody reads, a head that it refuses without an answer.

The server sends no pings: while it does not read, it would not see the answers. A client that is gone is one that sends
no audio, see server.routes.stream.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque

from uvicorn._types import ASGIReceiveEvent, ASGISendEvent
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame
from websockets.http11 import MAX_LINE_LENGTH, MAX_NUM_HEADERS

from server.errors import HeadTooLargeError
from server.http.connection import last_answer
from server.settings import Settings

logger = logging.getLogger(__name__)
# It tells of each handshake with its query, and of what clients get wrong: that is for the line of the request.
logger.setLevel(logging.ERROR)

# The largest message: 33 s of 16-bit samples at 16 kHz. Whoever records sends some ten milliseconds at a time.
MAX_MESSAGE_BYTES = 2**20
# Of a message that is sent in parts, which may be empty.
MAX_PARTS = 1024
# Parsed in one turn of the event loop: the smallest messages, of which these are 170, take 30 microseconds each.
SLICE_BYTES = 1024
# For what a client sends before it sees that the server closes: a connection that is closed with unread bytes is reset,
# and the reason is lost.
LINGER_SECONDS = 2.0


def guarded(settings: Settings) -> type[WebSocket]:
    """Return the protocol that uvicorn is to make for each WebSocket."""

    class Guarded(WebSocket):
        send_timeout = settings.send_timeout

    return Guarded


class WebSocket(WebSocketsSansIOProtocol):
    """A WebSocket that waits for nobody for ever."""

    send_timeout: float  # seconds in which the client reads nothing of what waits for it

    _turn: asyncio.Handle | None = None  # when the next slice is parsed
    _watch: asyncio.TimerHandle | None = None
    _left_before: int | None = None  # bytes that waited to be read when it was looked last

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to watch whether the client reads."""
        super().connection_made(transport)
        self._unread: deque[bytes] = deque()
        self.logger = self.conn.logger = logger
        self.close_timeout = LINGER_SECONDS
        self.conn.debug = False  # it would print all headers, keys among them
        self._look_later()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget what is unread."""
        self._unread.clear()
        for timer in (self._turn, self._watch):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse `data`, the head at once and the frames a slice at a time."""
        if not self.handshake_initiated:
            super().data_received(data)  # all of the head
            self._refuse_head()
            return
        self._unread.extend(data[start : start + SLICE_BYTES] for start in range(0, len(data), SLICE_BYTES))
        if self._turn is None:
            self._feed()

    def pause_writing(self) -> None:
        """Read no more: what is read may be answered."""
        super().pause_writing()
        self._go_on()

    def resume_writing(self) -> None:
        """Read on: the client does."""
        super().resume_writing()
        self._left_before = None
        self._go_on()

    def handle_cont(self, event: Frame) -> None:
        """Take a part of a message, of which there may not be too many."""
        if len(self.frames) < MAX_PARTS:
            super().handle_cont(event)
        else:
            self._fail(CloseCode.MESSAGE_TOO_BIG, f"more than {MAX_PARTS} parts")

    def send_receive_event_to_app(self) -> None:
        """Hand out a message; a text must be one."""
        try:
            if self.curr_msg_data_type == "text":
                b"".join(self.frames).decode()
        except UnicodeDecodeError:
            self._fail(CloseCode.INVALID_DATA, "not UTF-8")
        else:
            super().send_receive_event_to_app()

    def handle_parser_exception(self) -> None:
        """Close as the protocol asks for, and pass over what still comes for a moment."""
        if self.close_sent or self.conn.close_sent is None:
            return
        close = self.conn.close_sent
        self.queue.put_nowait({"type": "websocket.disconnect", "code": close.code, "reason": close.reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.read_paused = False
        self.close_timer = self.loop.call_later(LINGER_SECONDS, self.transport.close)
        self._go_on()

    async def receive(self) -> ASGIReceiveEvent:
        """Return the next message, and read on once there is none left."""
        message = await super().receive()
        self._go_on()
        return message

    async def send(self, message: ASGISendEvent) -> None:
        """Send `message`; raises ClientDisconnected, also where the connection was closed for what the client sent."""
        if self.close_sent:
            raise ClientDisconnected
        await super().send(message)
        if self.close_sent:  # of an answer in place of a WebSocket, uvicorn would say that there was none
            self.handshake_complete = True
        self._go_on()

    def _refuse_head(self) -> None:
        """Answer a head that is within our bounds, and not within those of `websockets`, which drops it."""
        if not self.handshake_initiated and not self.transport.is_closing():
            message = f"the head has more than {MAX_NUM_HEADERS} lines, or one of more than {MAX_LINE_LENGTH} bytes"
            self.transport.write(last_answer(HeadTooLargeError(message)))
            self.transport.close()

    def _fail(self, code: CloseCode, reason: str) -> None:
        if not self.close_sent:
            self.conn.fail(code, reason)
            self.handle_parser_exception()

    def _feed(self) -> None:
        self._turn = None
        if self._unread and not self.read_paused:
            super().data_received(self._unread.popleft())
        self._go_on()

    def _go_on(self) -> None:
        """Parse the next slice in the loop's next turn; read on where nothing is left."""
        if self.transport.is_closing():
            return
        if self._unread and not self.read_paused and self._turn is None:
            self._turn = self.loop.call_soon(self._feed)
        if self._unread or self.read_paused or not self.writable.is_set():
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def _look_later(self) -> None:
        self._watch = self.loop.call_later(self.send_timeout, self._look)

    def _look(self) -> None:
        """Cut a client off that has read nothing of what waits for it since the last look."""
        must_read = not self.writable.is_set() or self.transport.is_closing()
        left = self.transport.get_write_buffer_size() if must_read else None
        if left is not None and self._left_before is not None and left >= self._left_before:
            self.transport.abort()
        else:
            self._left_before = left
            self._look_later()
