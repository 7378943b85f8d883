"""A small HTTP/1.1 client over asyncio's streams.

It takes a tenth of the processor time of httpx: what the load generator uses is not there for the server.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

HOST = "127.0.0.1"
# Of one line or head that is read: more than any answer's head has.
STREAM_BYTES = 1 << 18
# uvicorn closes a connection that nobody has used for 5 s: one that is older is not used again.
IDLE_SECONDS = 4.0


@dataclass(frozen=True)
class Request:
    """What is sent, as bytes; `seconds` of audio are in it."""

    head: bytes
    body: bytes
    seconds: float

    @classmethod
    def post(cls, path: str, body: bytes, seconds: float, headers: Mapping[str, str]) -> Request:
        """Make a POST request."""
        lines = [f"POST {path} HTTP/1.1", f"Host: {HOST}", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return cls("\r\n".join([*lines, "", ""]).encode("ascii"), body, seconds)


@dataclass(frozen=True)
class Answer:
    """What came back; status 0 where the connection broke instead."""

    status: int
    headers: Mapping[str, str]  # by names in lower case
    body: bytes

    @property
    def timings(self) -> dict[str, float]:
        """Seconds by stage, as the server says in Server-Timing."""
        stages = (stage.strip().partition(";dur=") for stage in self.headers.get("server-timing", "").split(","))
        return {name: float(milliseconds) / 1e3 for name, _, milliseconds in stages if milliseconds}


BROKEN = Answer(0, {}, b"")


class Connection:
    """One connection, that is used again and again."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._used = time.perf_counter()
        self.is_open = True

    @property
    def is_fresh(self) -> bool:
        """Whether the server will not have closed it for being idle."""
        return self.is_open and time.perf_counter() - self._used < IDLE_SECONDS

    async def ask(self, request: Request) -> Answer:
        """Send `request` and read the whole answer. Raises OSError or EOFError where the connection breaks."""
        self._writer.write(request.head)
        self._writer.write(request.body)
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        body = await self._reader.readexactly(int(headers["content-length"]))
        self._used = time.perf_counter()
        if headers.get("connection", "").lower() == "close":
            self.close()
        return Answer(int(head[0].split(" ", 2)[1]), headers, body)

    def close(self) -> None:
        """Close it, without waiting for the server."""
        self.is_open = False
        self._writer.close()


class Client:
    """Connections to one server. Each request takes one that is free, or opens another."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._free: list[Connection] = []

    async def ask(self, request: Request) -> Answer:
        """Send `request` and return the answer; BROKEN where the connection breaks."""
        connection = None
        try:
            connection = await self._connection()
            answer = await connection.ask(request)
        except (OSError, EOFError):
            if connection is not None:
                connection.close()
            return BROKEN
        except asyncio.CancelledError:
            if connection is not None:
                connection.close()
            raise
        if connection.is_open:
            self._free.append(connection)
        return answer

    def close(self) -> None:
        """Close what is open."""
        for connection in self._free:
            connection.close()
        self._free.clear()

    async def _connection(self) -> Connection:
        while self._free:
            connection = self._free.pop()  # the one that was used last
            if connection.is_fresh:
                return connection
            connection.close()
        return Connection(*await asyncio.open_connection(HOST, self._port, limit=STREAM_BYTES))
