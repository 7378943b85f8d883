import asyncio
import logging

import pytest
from starlette.responses import Response
from starlette.types import Message

from server.errors import EngineFailedError
from server.routes.pieces import Pieces, Sender


def answered(pieces: Pieces) -> list[Message]:
    sent: list[Message] = []

    async def receive() -> Message:
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(pieces({"type": "http"}, receive, send))
    return sent


def bodies(sent: list[Message]) -> list[tuple[bytes, bool]]:
    return [(message["body"], message.get("more_body", False)) for message in sent[1:]]


def test_pieces_are_sent_as_they_come() -> None:
    async def make(sender: Sender) -> None:
        await sender.begin("application/x-npy", 3, {"X-Windows": "1"})
        for piece in (b"a", b"", b"bc"):
            await sender.piece(piece)

    head, *_ = sent = answered(Pieces(make))
    assert head["status"] == 200
    assert dict(head["headers"]) == {
        b"content-type": b"application/x-npy",
        b"content-length": b"3",
        b"x-windows": b"1",
    }
    assert bodies(sent) == [(b"a", True), (b"bc", True), (b"", False)]


def test_a_length_that_is_not_known_is_not_stated() -> None:
    async def make(sender: Sender) -> None:
        await sender.begin("application/json", None, {})

    assert [name for name, _ in answered(Pieces(make))[0]["headers"]] == [b"content-type"]


def test_a_small_answer_is_sent_as_it_is() -> None:
    async def make(sender: Sender) -> Response:
        return Response(b"all", 201)

    head, *_ = sent = answered(Pieces(make))
    assert head["status"] == 201
    assert bodies(sent) == [(b"all", False)]


def test_an_error_before_the_answer_is_one_of_its_own() -> None:
    async def make(sender: Sender) -> None:
        raise EngineFailedError("it failed")

    with pytest.raises(EngineFailedError):
        answered(Pieces(make))


def test_an_error_in_its_midst_breaks_it_off(caplog: pytest.LogCaptureFixture) -> None:
    async def make(sender: Sender) -> None:
        await sender.begin("application/json", None, {})
        await sender.piece(b"begun")
        raise EngineFailedError("it failed")

    with caplog.at_level(logging.ERROR):
        sent = answered(Pieces(make))
    assert bodies(sent) == [(b"begun", True)]  # and never an end
    assert "breaks off with engine_failed: it failed" in caplog.text


def test_a_fault_of_ours_is_left_to_who_logs_it() -> None:
    async def make(sender: Sender) -> None:
        await sender.begin("application/json", None, {})
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        answered(Pieces(make))
