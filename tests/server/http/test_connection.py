import asyncio
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from server.http.connection import Connection, guarded
from server.settings import Settings
from tests.server.process import Server, noise, serving, wav

NAME = "hubert-intent-english"
CONNECTIONS = 8
HEAD = b"GET /health/live HTTP/1.1\r\nHost: x\r\n"
# Long enough for a loaded machine; the server is told to wait for a second.
PATIENCE_SECONDS = 60.0


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    models = tmp_path_factory.mktemp("models")
    (models / NAME).symlink_to(Path(__file__).parents[3] / "demo" / "engines" / NAME)
    return models


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Server]:
    with serving(models, max_connections=CONNECTIONS) as running:
        yield running


@pytest.fixture(scope="module")
def impatient(models: Path) -> Iterator[Server]:
    with serving(models, header_timeout=1, send_timeout=1) as running:
        yield running


def read_all(connection: socket.socket) -> bytes:
    """Return all that comes until the server closes the connection."""
    connection.settimeout(PATIENCE_SECONDS)
    received = b""
    try:
        while part := connection.recv(1 << 16):
            received += part
    except ConnectionResetError:
        pass
    return received


def code(received: bytes) -> tuple[int, str]:
    """Return the status and the code of an error."""
    found = re.match(rb'HTTP/1.1 (\d+) .*"code":"(\w+)"', received, re.DOTALL)
    assert found, received
    return int(found[1]), found[2].decode()


def drip(connection: socket.socket, data: Callable[[int], bytes]) -> None:
    """Send `data` bit by bit until the server has had enough."""
    end = time.monotonic() + PATIENCE_SECONDS
    connection.settimeout(0.05)
    count = 0
    while time.monotonic() < end:
        try:
            connection.sendall(data(count))
            if connection.recv(1, socket.MSG_PEEK) is not None:
                return
        except TimeoutError:
            count += 1
        except OSError:
            return
    raise AssertionError("the server waits for ever")


@pytest.mark.parametrize(
    ("before", "piece"),
    [
        (b"", b""),
        (b"", b"\r\n"),
        (HEAD, b"a: b\r\n"),
        (HEAD + b"\r\n" + HEAD, b"a: b\r\n"),
    ],
    ids=["nothing", "line breaks", "headers without end", "in a second request"],
)
def test_a_head_that_takes_too_long(impatient: Server, before: bytes, piece: bytes) -> None:
    with impatient.connect() as connection:
        connection.sendall(before)
        if before.startswith(HEAD + b"\r\n"):
            answer = b""
            while b'"live"' not in answer:
                part = connection.recv(1 << 16)
                assert part, answer
                answer += part
        drip(connection, lambda count: piece)
        received = read_all(connection)
    assert code(received) == (408, "head_timeout")
    assert impatient.client.get("/health/ready").status_code == 200


@pytest.mark.parametrize("chunked", [False, True], ids=["headers", "trailers"])
def test_a_head_that_is_too_large(server: Server, chunked: bool) -> None:
    with server.connect() as connection:
        start = b"POST /v1/encode HTTP/1.1\r\nHost: x\r\n"
        connection.sendall(start + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" if chunked else start)
        try:
            for _ in range(1024):  # a megabyte
                connection.sendall(b"a" * 1024)
        except OSError:
            pass
        received = read_all(connection)
    assert not received or code(received) == (431, "head_too_large")  # nothing, where the reset came before it
    assert server.peak_kib < 1024 * 1024


def test_a_large_body_is_no_head(server: Server) -> None:
    data = wav(noise(10))
    assert len(data) > 512 * 1024
    response = server.client.post(f"/v1/encode?model={NAME}&pooling=mean", content=data)
    assert response.status_code == 200
    parts = (data[at : at + 16] for at in range(0, 200 * 1024, 16))  # with as much besides as in them, or nearly
    response = server.client.post(f"/v1/encode?model={NAME}&pooling=mean", content=parts)
    assert response.status_code == 200


def test_what_is_not_http(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(b"rubbish\r\n\r\n")
        assert code(read_all(connection)) == (400, "request_invalid")


def answers(received: bytes) -> list[int]:
    """Return the status of each answer."""
    return [int(status) for status in re.findall(rb"HTTP/1.1 (\d+) ", received)]


CHUNKED = b"POST /v1/encode HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("rubbish", "status"),
    [
        (b"\0\1\2rubbish\r\n\r\n", 400),
        (CHUNKED + b"nothing\r\n", 400),
        (HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 501),
    ],
    ids=["head", "body", "encoding"],
)
@pytest.mark.parametrize("count", [1, 3])
def test_rubbish_behind_a_request_does_not_take_its_answer(
    server: Server, rubbish: bytes, status: int, count: int
) -> None:
    data = wav(noise(5))  # what is asked is answered later than the rubbish is read
    request = f"POST /v1/encode?model={NAME} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data
    with server.connect() as connection:
        connection.sendall(request * count + rubbish)
        received = read_all(connection)
    assert answers(received) == [200] * count + [status]
    assert server.client.get("/health/ready").status_code == 200


def test_a_body_that_is_rubbish(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(CHUNKED + b"nothing\r\n")
        assert code(read_all(connection)) == (400, "request_invalid")


@pytest.mark.parametrize(
    "headers",
    [
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
    ],
)
def test_a_body_that_is_not_only_chunked(server: Server, headers: bytes) -> None:
    with server.connect() as connection:
        connection.sendall(b"POST /v1/encode HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n\r\n1\r\na\r\n0\r\n\r\n")
        assert code(read_all(connection)) == (501, "transfer_encoding_not_supported")


@pytest.mark.parametrize("length", [b"0" * 5000 + b"5", b"0" * 20, b"9" * 5000])
def test_a_length_of_too_many_digits(server: Server, length: bytes) -> None:
    with server.connect() as connection:
        connection.sendall(b"POST /v1/encode HTTP/1.1\r\nHost: x\r\nContent-Length: " + length + b"\r\n\r\nabcde")
        assert code(read_all(connection)) == (400, "request_invalid")


def test_more_connections_than_are_taken(server: Server) -> None:
    with ExitStack() as stack:
        for _ in range(CONNECTIONS):  # the client has one or none
            stack.enter_context(server.connect())
        with server.connect() as connection:
            assert code(read_all(connection)) == (503, "too_many_connections")
    server.wait_for("/health/ready")


def test_a_client_that_does_not_read_its_answer(impatient: Server) -> None:
    data = wav(noise(19))
    with impatient.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        head = f"POST /v1/encode?model={NAME} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n".encode()
        request = head + data
        connection.settimeout(PATIENCE_SECONDS)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):  # noqa: PT012
            for _ in range(100):  # answers of some 400 kB each, more than the system keeps for a connection
                connection.sendall(request)
    assert impatient.client.get("/health/ready").status_code == 200


def test_a_client_that_reads_slowly_gets_all_of_it(impatient: Server) -> None:
    """Once at least: this process may be held up for longer than it may read nothing."""
    assert any(reads_slowly(impatient) for _ in range(5))


def reads_slowly(impatient: Server) -> bool:
    """Return whether all of an answer comes to a client that takes twice the time that it may read nothing."""
    data = wav(noise(19))
    with impatient.connect() as connection, suppress(ConnectionError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        head = f"POST /v1/encode?model={NAME} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n".encode()
        connection.sendall(head + data)
        received = connection.recv(1 << 16)
        length = int(re.search(rb"(?i)content-length: (\d+)", received)[1])  # type: ignore[index]
        size = received.index(b"\r\n\r\n") + 4 + length
        end = time.monotonic() + 2.0
        while len(received) < size:
            part = connection.recv(size - len(received) if time.monotonic() > end else 2048)
            if not part:
                return False
            received += part
            time.sleep(0.01 if time.monotonic() < end else 0)
        return received.endswith(b"}")
    return False


async def breaks_off(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with less than the transport takes before it holds its writer up, and with less than is stated."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"100000")]})
    await send({"type": "http.response.body", "body": bytes(60_000), "more_body": True})


def test_an_answer_that_breaks_off_does_not_keep_its_connection() -> None:
    async def run() -> None:
        config = uvicorn.Config(breaks_off, http=guarded(Settings(send_timeout=0.2)), log_config=None)
        config.load()
        state, listening = ServerState(), socket.create_server(("127.0.0.1", 0))
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # of the connections too
        connections: list[Connection] = []

        def make() -> Connection:
            connections.append(guarded(Settings(send_timeout=0.2))(config, state, {}))
            return connections[-1]

        server = await asyncio.get_running_loop().create_server(make, sock=listening)
        async with asyncio.timeout(PATIENCE_SECONDS), server:
            with socket.socket() as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                client.connect(listening.getsockname())
                client.sendall(HEAD + b"\r\n")  # and reads nothing
                while not (connections and connections[0].transport and connections[0].transport.is_closing()):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                assert connections[0].transport.get_write_buffer_size() > 0
                while state.connections:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)

    asyncio.run(run())
