import json
import re
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from server.http.websocket import MAX_MESSAGE_BYTES, MAX_PARTS
from tests.server.process import Server, serving
from tests.server.streams import BINARY, PART, PING, TEXT, frame, head, start, upgraded

PATIENCE_SECONDS = 60.0
CONNECTIONS = 8
OPTIONS = frame(TEXT, start().encode())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server without models: a stream gets as far as its first message."""
    with serving(tmp_path_factory.mktemp("models"), wait=False, send_timeout=1, max_connections=CONNECTIONS) as running:
        yield running


def read_all(connection: socket.socket) -> bytes:
    """Return all that comes until the server closes the connection."""
    connection.settimeout(PATIENCE_SECONDS)
    received = b""
    with suppress(ConnectionResetError):
        while part := connection.recv(1 << 16):
            received += part
    return received


def send_until_closed(connection: socket.socket, data: bytes) -> None:
    """Send `data` again and again; fails if the server always takes it, or never does."""
    connection.settimeout(PATIENCE_SECONDS)
    end = time.monotonic() + PATIENCE_SECONDS
    with suppress(ConnectionError):
        while time.monotonic() < end:
            connection.sendall(data)
        raise AssertionError("the server takes it for ever")


def close_frame(code: int) -> bytes:
    return struct.pack(">H", code)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([f"X-{number}: 1" for number in range(200)], 431),
        (["X: " + "x" * 9000], 431),
        (["Content-Length: 4"], 400),
        (["Transfer-Encoding: chunked"], 400),
        (["Sec-WebSocket-Key: x"], 400),
    ],
)
def test_heads_that_are_refused(server: Server, headers: list[str], status: int) -> None:
    with server.connect() as connection:
        connection.sendall(head(*headers))
        assert read_all(connection).startswith(f"HTTP/1.1 {status} ".encode())


def test_a_stream_waits_for_no_other_answer(server: Server) -> None:
    with server.connect() as connection:
        request = b"POST /v1/encode HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx"
        connection.sendall(request + head())
        statuses = re.findall(rb"HTTP/1.1 (\d+) ", read_all(connection))
    assert statuses in ([b"400", b"400"], [b"422", b"400"], [b"503", b"400"])


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(TEXT, b"\xff"), 1007),
        (b"\xff" * 8, 1002),
        (frame(PART), 1002),
        (frame(BINARY, is_last=False) + frame(PART, is_last=False) * (MAX_PARTS + 1), 1009),
        (bytes([0x82, 0xFF]) + struct.pack(">Q", MAX_MESSAGE_BYTES + 1) + bytes(8), 1009),
    ],
    ids=["no UTF-8", "no frame", "a part of nothing", "parts without end", "too large"],
)
def test_messages_that_are_none(server: Server, data: bytes, code: int) -> None:
    with upgraded(server) as connection:
        connection.sendall(data)
        received = connection.recv(4)
    assert received.startswith(b"\x88")
    assert received[2:4] == close_frame(code)


def test_a_close_is_read_by_a_client_that_goes_on_sending(server: Server) -> None:
    with upgraded(server) as connection:
        connection.sendall(bytes([0x82, 0xFF]) + struct.pack(">Q", 2**30) + bytes(4))
        assert connection.recv(4)[2:4] == close_frame(1009)
        with suppress(ConnectionError):  # it is not waited for for ever
            connection.sendall(bytes(1 << 16))


@pytest.mark.parametrize("kind", [PING, BINARY])
def test_a_client_that_does_not_read(server: Server, kind: int) -> None:
    """Its pings are not answered for ever, and messages that nobody takes are not read."""
    before = server.peak_kib
    with upgraded(server) as connection:
        send_until_closed(connection, frame(kind, b"x" * 125) * 500)
    assert server.peak_kib - before < 64 * 1024


def test_pings_are_answered(server: Server) -> None:
    with upgraded(server) as connection:
        connection.sendall(frame(PING, b"hello"))
        assert connection.recv(100) == b"\x8a\x05hello"


def test_streams_are_connections(server: Server) -> None:
    def refused() -> bool:
        with server.connect() as connection:
            connection.settimeout(PATIENCE_SECONDS)
            connection.sendall(head())
            return connection.recv(100).startswith(b"HTTP/1.1 503 ")

    held = []
    try:
        end = time.monotonic() + PATIENCE_SECONDS
        while not refused():
            assert time.monotonic() < end
            held.append(upgraded(server))
        assert len(held) <= CONNECTIONS
    finally:
        for connection in held:
            connection.close()


def test_nothing_of_this_is_in_the_log(server: Server) -> None:
    server.wait_for("/health/live")  # until it has seen that the connections of another test are closed
    server.process.terminate()
    assert server.process.wait(PATIENCE_SECONDS) == 0  # the log is whole
    assert "Traceback" not in server.log
    _, _, served = server.log.partition("Uvicorn running")
    lines = [json.loads(line) for line in served.splitlines()[1:]]
    others = {line["message"] for line in lines if line["logger"] != "server.access"}
    # Of the heads, and of the end.
    ending = {"Shutting down", "Waiting for application shutdown.", "Application shutdown complete."}
    assert others <= {"Invalid HTTP request received.", *ending, f"Finished server process [{server.process.pid}]"}
    assert {line["status"] for line in lines if line.get("path") == "/v1/stream"} >= {499, 1003}
