from __future__ import annotations

import asyncio
import logging
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
from prometheus_client import REGISTRY
from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from engines.manifest import Task
from server.http.request import CLIENT_LEFT, TASKS, Account, RequestContext
from tests.server.http.asgi import arriving, call, headers_of
from tests.server.process import serving


def scope(path: str = "/v1/encode", **more: Any) -> dict[str, Any]:
    return {"type": "http", "method": "POST", "path": path, "client": ("127.0.0.1", 5), **more}


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def fields(caplog: pytest.LogCaptureFixture) -> dict[str, Any]:
    [record] = caplog.records
    found: dict[str, Any] = record.__dict__["fields"]
    return found


def test_one_request(caplog: pytest.LogCaptureFixture) -> None:
    about = {"task": "encode", "model": "m"}
    counted = value("sonant_requests_total", **about, status="200")
    in_progress = value("sonant_requests_in_progress")
    account = Account(scope(route=SimpleNamespace(path="/v1/encode")), "id")
    assert value("sonant_requests_in_progress") == in_progress + 1
    account.state["model"] = "m"
    account.timings["decode"] = 0.25
    assert not account.answered
    account.answer(200)
    assert account.answered
    assert account.server_timing().startswith("decode;dur=250.00, total;dur=")
    with caplog.at_level(logging.INFO, "server.access"):
        account.close()
    assert value("sonant_requests_total", **about, status="200") == counted + 1
    assert value("sonant_requests_in_progress") == in_progress
    assert value("sonant_stage_duration_seconds_sum", model="m", stage="decode") == pytest.approx(0.25)
    logged = fields(caplog)
    assert (logged["path"], logged["task"], logged["model"], logged["status"]) == ("/v1/encode", "encode", "m", 200)
    assert logged["decode_seconds"] == 0.25


def test_every_task_has_a_path() -> None:
    assert set(TASKS.values()) == {*get_args(Task), "stream"}


def test_nobody_was_left_to_answer(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "server.access"):
        Account(scope(), "id").close()
    assert fields(caplog)["status"] == CLIENT_LEFT


def test_a_path_without_a_route_stays_out_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "server.access"):
        Account(scope("/etc/passwd"), "id").close()
    assert fields(caplog)["path"] == fields(caplog)["task"] == "none"


def test_what_is_asked_all_the_time_is_quiet(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "server.access"):
        Account(scope("/health/live"), "id").close()
    assert not caplog.records


def test_what_nobody_caught_becomes_a_500_without_details(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise ZeroDivisionError("secret")

    sent = asyncio.run(call(RequestContext(app), arriving(b""), {"x-request-id": "abc"}))
    assert sent[0]["status"] == 500
    assert b"internal_error" in sent[1]["body"]
    assert b"secret" not in sent[1]["body"]
    assert headers_of(sent)[b"x-request-id"] == b"abc"
    assert "request abc failed" in caplog.text


@pytest.mark.parametrize("is_open", [False, True])
def test_a_stream_fails_without_details(is_open: bool, caplog: pytest.LogCaptureFixture) -> None:
    sent: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if is_open:
            await send({"type": "websocket.accept"})
        raise ZeroDivisionError("secret")

    async def send(message: Message) -> None:
        sent.append(message)

    stream = scope("/v1/stream", type="websocket", headers=[], extensions={"websocket.http.response": {}})
    del stream["method"]
    with caplog.at_level(logging.INFO, "server.access"):
        asyncio.run(RequestContext(app)(stream, arriving(b""), send))
    line = caplog.records[-1].__dict__["fields"]
    assert (line["method"], line["task"], line["status"]) == ("WEBSOCKET", "stream", 1011 if is_open else 500)
    assert "secret" not in str(sent)
    if is_open:
        assert dict(sent[0]["headers"])[b"x-request-id"] == line["request_id"].encode()
        assert "internal_error" in sent[1]["text"]
        assert sent[2]["code"] == 1011
    else:
        assert sent[0]["status"] == 500


@pytest.mark.parametrize("wished", ["", "a b", "a\nb", "x" * 65, "ä"])
def test_an_id_that_could_forge_a_line_is_replaced(wished: str) -> None:
    sent = asyncio.run(call(RequestContext(PlainTextResponse("")), arriving(b""), {"x-request-id": wished}))
    assert re.fullmatch(rb"[0-9a-f]{32}", headers_of(sent)[b"x-request-id"])


def test_every_answer_has_an_id_and_timings(tmp_path: Path) -> None:
    with serving(tmp_path, wait=False, max_body_bytes=100) as server:
        client = server.client
        answers = {
            200: client.get("/health/live"),
            307: client.get("/"),
            400: client.post("/v1/encode", content=b"x"),
            404: client.get("/nowhere"),
            405: client.get("/v1/encode"),
            413: client.post("/v1/encode", content=bytes(101)),
            415: client.post("/v1/encode", content=b"x", headers={"Content-Type": "text/plain"}),
            422: client.post("/v1/encode?pooling=odd", content=b"x"),
        }
        for status, answer in answers.items():
            assert answer.status_code == status
            assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["X-Request-Id"])
            assert re.search(r"total;dur=\d", answer.headers["Server-Timing"])
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert client.get("/nowhere", headers={"X-Request-Id": "mine"}).headers["X-Request-Id"] == "mine"
