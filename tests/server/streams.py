"""Clients of /v1/stream: one that behaves, and frames for those that do not."""

from __future__ import annotations

import base64
import json
import os
import random
import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.server.process import Server

PATIENCE_SECONDS = 30.0
TEXT, BINARY, PING, PART = 1, 2, 9, 0


@dataclass
class Heard:
    """What a stream said, and the code that it was closed with."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    code: int | None = None

    def all(self, type_: str) -> list[dict[str, Any]]:
        return [message for message in self.messages if message["type"] == type_]

    @property
    def text(self) -> str:
        return "".join(message["text"] for message in self.all("final"))

    @property
    def error(self) -> tuple[int | None, str, str | None]:
        """The close code, and the code and the field of the one error."""
        [error] = self.all("error")
        assert error is self.messages[-1]
        assert set(error["error"]) == {"message", "type", "param", "code"}
        return self.code, error["error"]["code"], error["error"]["param"]


def opened(server: Server, path: str = "/v1/stream", **more: Any) -> ClientConnection:
    url = f"ws://127.0.0.1:{server.port}{path}"
    connection: ClientConnection = connect(url, open_timeout=PATIENCE_SECONDS, compression=None, **more)
    return connection


def start(**options: Any) -> str:
    return json.dumps({"type": "start", **options})


END = json.dumps({"type": "end"})


def hear(connection: ClientConnection) -> Heard:
    """Return all that comes until the server closes."""
    heard = Heard()
    try:
        while True:
            heard.messages.append(json.loads(connection.recv(PATIENCE_SECONDS)))
    except ConnectionClosed:
        heard.code = connection.close_code
    return heard


def say(server: Server, *messages: str | bytes, **more: Any) -> Heard:
    """Send `messages`, as many as the server takes, and return what it says."""
    with opened(server, **more) as connection:
        try:
            for message in messages:
                connection.send(message)
        except ConnectionClosed:
            pass
        return hear(connection)


def pcm16(samples: NDArray[np.float32]) -> NDArray[np.int16]:
    return np.clip(np.round(samples * 2**15), -(2**15), 2**15 - 1).astype("<i2")


def pieces(data: bytes, most: int, seed: int = 0) -> Iterator[bytes]:
    """Cut `data` into pieces of up to `most` bytes, none and odd ones among them."""
    generator, begin = random.Random(seed), 0
    while begin < len(data):
        size = generator.randint(0, most)
        yield data[begin : begin + size]
        begin += size


def frame(kind: int, data: bytes = b"", is_last: bool = True) -> bytes:
    """Return a frame as a client sends it, masked with zeros."""
    size = bytes([0x80 | len(data)]) if len(data) < 126 else bytes([0x80 | 126]) + struct.pack(">H", len(data))
    return bytes([0x80 * is_last | kind]) + size + bytes(4) + data


def head(*headers: str) -> bytes:
    """Return the head of a request for a WebSocket."""
    key = base64.b64encode(os.urandom(16)).decode()
    lines = ["GET /v1/stream HTTP/1.1", "Host: x", "Upgrade: websocket", "Connection: Upgrade"]
    lines += ["Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


def upgraded(server: Server) -> socket.socket:
    """Return a connection on which frames can be sent."""
    connection = server.connect()
    connection.sendall(head())
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += connection.recv(4096)
    assert answer.startswith(b"HTTP/1.1 101 ")
    return connection


def frames_of(data: bytes) -> Iterable[bytes]:
    """Yield a frame for each byte."""
    return (frame(BINARY, data[place : place + 1]) for place in range(len(data)))
