from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import REGISTRY

from server.accounting import Account
from server.metrics import CLIENT_LEFT


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
