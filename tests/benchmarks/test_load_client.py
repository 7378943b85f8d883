"""The client against servers that say what a test gives them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from benchmarks.load.client import BROKEN, TIMED_OUT, Answer, Client, Request

OK = b"HTTP/1.1 200 OK\r\n"
PLAIN = OK + b"Content-Length: 2\r\n\r\nok"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def ask(
    says: Callable[[int], bytes], times: int = 1, *, closes: bool = False, timeout: float | None = 60.0
) -> tuple[list[Answer], int, bytes]:
    """Return the answers to some requests, one after the other, the connections that it took, and the newest head."""

    async def test() -> tuple[list[Answer], int, bytes]:
        connections, head = 0, b""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connections, head
            connections += 1
            try:
                while True:
                    head = await reader.readuntil(b"\r\n\r\n")
                    writer.write(says(connections))
                    await writer.drain()
                    if closes:
                        break
            except (OSError, EOFError):
                pass
            finally:
                writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            client = Client(server.sockets[0].getsockname()[1], timeout=timeout)
            answers = []
            for _ in range(times):
                answers.append(await client.ask(Request.get("/").to("example.org:8000")))
                if closes:
                    await asyncio.sleep(0.01)  # until the client has seen it
            client.close()
            return answers, connections, head

    return asyncio.run(test())


def test_a_connection_is_used_again() -> None:
    answers, connections, head = ask(lambda number: PLAIN, times=3)
    assert [(answer.status, answer.body) for answer in answers] == [(200, b"ok")] * 3
    assert connections == 1
    assert head == b"GET / HTTP/1.1\r\nHost: example.org:8000\r\n\r\n"


def test_chunks_are_put_together() -> None:
    chunks = CHUNKED + b"3\r\nabc\r\nA;name=value\r\n0123456789\r\n0\r\nTrailer: yes\r\n\r\n"
    answers, connections, _ = ask(lambda number: chunks, times=2)
    assert [answer.body for answer in answers] == [b"abc0123456789"] * 2
    assert connections == 1


def test_a_body_may_end_with_its_connection() -> None:
    for head in (b"HTTP/1.0 200 OK\r\n\r\n", OK + b"Connection: close\r\n\r\n", OK + b"\r\n"):
        answers, connections, _ = ask(lambda number, head=head: head + b"all of it", times=2, closes=True)  # type: ignore[misc]
        assert [answer.body for answer in answers] == [b"all of it"] * 2
        assert connections == 2


def test_a_connection_that_the_server_has_closed_is_not_used_again() -> None:
    answers, connections, _ = ask(lambda number: PLAIN, times=3, closes=True)
    assert [answer.status for answer in answers] == [200] * 3
    assert connections == 3


def test_an_answer_may_have_no_body() -> None:
    answers, connections, _ = ask(lambda number: b"HTTP/1.1 204 No Content\r\n\r\n", times=2)
    assert [(answer.status, answer.body) for answer in answers] == [(204, b"")] * 2
    assert connections == 1


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 two-hundred\r\n\r\n",
        b"SSH-2.0\r\n\r\n",
        b"a" * 300_000,
        CHUNKED + b"no number\r\n",
        CHUNKED + b"5\r\nabc",
    ],
)
def test_what_is_not_http_is_no_answer(said: bytes) -> None:
    answers, *_ = ask(lambda number: said.replace(b": 5", b": 9"), closes=True)
    assert answers == [BROKEN]


def test_a_request_is_given_up() -> None:
    answers, connections, _ = ask(lambda number: OK if number == 1 else PLAIN, times=2, timeout=0.2)
    assert answers[0] == TIMED_OUT
    assert answers[1].status == 200  # on another connection: an answer may still come on the first
    assert connections == 2


def test_nobody_listens() -> None:
    async def test() -> Answer:
        async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
        return await Client(port).ask(Request.get("/"))

    assert asyncio.run(test()) == BROKEN
