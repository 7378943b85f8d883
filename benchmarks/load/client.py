"""A small HTTP/1.1 client over asyncio's streams.

It takes a tenth of the processor time of httpx: what the load generator uses is not there for the server.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus

HOST = "127.0.0.1"
# Of one line or head that is read: more than any answer's head has.
STREAM_BYTES = 1 << 18
# uvicorn closes a connection that nobody has used for 5 s: one that is older is not used again.
IDLE_SECONDS = 4.0
WITHOUT_BODY = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)


@dataclass(frozen=True)
class Request:
    """What is sent, as bytes; `seconds` of audio are in it."""

    head: bytes
    body: bytes
    seconds: float

    @classmethod
    def post(cls, path: str, body: bytes, seconds: float, headers: Mapping[str, str]) -> Request:
        """Make a POST request."""
        return cls(_head("POST", path, {"Content-Length": str(len(body)), **headers}), body, seconds)

    @classmethod
    def get(cls, path: str) -> Request:
        """Make a GET request."""
        return cls(_head("GET", path, {}), b"", 0.0)

    def to(self, host: str) -> Request:
        """Return it with another host, where several may be behind one address."""
        return replace(self, head=self.head.replace(f"Host: {HOST}".encode(), f"Host: {host}".encode("ascii"), 1))


def _head(method: str, path: str, headers: Mapping[str, str]) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"Host: {HOST}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("ascii")


@dataclass(frozen=True)
class Answer:
    """What came back; no status of HTTP where nothing did: see BROKEN and TIMED_OUT."""

    status: int
    headers: Mapping[str, str]  # by names in lower case
    body: bytes

    @property
    def timings(self) -> dict[str, float]:
        """Seconds by stage, as the server says in Server-Timing."""
        stages = (stage.strip().partition(";dur=") for stage in self.headers.get("server-timing", "").split(","))
        return {name: float(milliseconds) / 1e3 for name, _, milliseconds in stages if milliseconds}


BROKEN = Answer(0, {}, b"")  # the connection broke, or what came is not HTTP
TIMED_OUT = Answer(-1, {}, b"")


class Connection:
    """One connection, that is used again and again."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._used = time.perf_counter()
        self.is_open = True

    @property
    def is_fresh(self) -> bool:
        """Whether the server has not closed it for being idle, and will not have."""
        return self.is_open and not self._reader.at_eof() and time.perf_counter() - self._used < IDLE_SECONDS

    async def ask(self, request: Request) -> Answer:
        """Send `request` and read the whole answer.

        Raises OSError or EOFError where the connection breaks, ValueError or LimitOverrunError for what is not HTTP.
        """
        self._writer.write(request.head)
        self._writer.write(request.body)
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        version, status, *_ = head[0].split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        answer = Answer(int(status), headers, await self._body(int(status), headers))
        self._used = time.perf_counter()
        if headers.get("connection", "keep-alive" if version == "HTTP/1.1" else "close").lower() == "close":
            self.close()
        return answer

    async def _body(self, status: int, headers: Mapping[str, str]) -> bytes:
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return await self._chunks()
        if "content-length" in headers:
            return await self._reader.readexactly(int(headers["content-length"]))
        if status in WITHOUT_BODY:
            return b""
        rest = await self._reader.read()  # only the end of the connection tells where such a body ends
        self.close()
        return rest

    async def _chunks(self) -> bytes:
        chunks = []
        while size := int((await self._line()).partition(b";")[0], 16):
            chunks.append(await self._reader.readexactly(size))
            await self._line()
        while await self._line():  # of the trailer, which ends with an empty one
            pass
        return b"".join(chunks)

    async def _line(self) -> bytes:
        return (await self._reader.readuntil(b"\r\n"))[:-2]

    def close(self) -> None:
        """Close it, without waiting for the server."""
        self.is_open = False
        self._writer.close()


class Client:
    """Connections to one server. Each request takes one that is free, or opens another.

    One that is not answered within `timeout` seconds is given up: TIMED_OUT.
    """

    def __init__(self, port: int, host: str = HOST, timeout: float | None = None) -> None:
        self._port, self._host, self._timeout = port, host, timeout
        self._free: list[Connection] = []

    async def ask(self, request: Request) -> Answer:
        """Send `request` and return the answer; BROKEN where the connection breaks."""
        connection = None
        try:
            async with asyncio.timeout(self._timeout):
                connection = await self._connection()
                answer = await connection.ask(request)
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
            if connection is not None:
                connection.close()
            return TIMED_OUT if isinstance(error, TimeoutError) else BROKEN
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
        return Connection(*await asyncio.open_connection(self._host, self._port, limit=STREAM_BYTES))
