from __future__ import annotations

import io
import json
import logging
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from server.logs import MAX_WAITING, JsonFormatter, LineHandler, TextFormatter, escape
from tests.server.process import Server, serving

FORGED = "2026-01-01T00:00:00.000+00:00 INFO    server.access: forged"
# Ends a line, returns, erases, is a control sequence without ESC, ends a line for JavaScript, reverses what follows.
HOSTILE = "a\nb\r\x00\x08\x1b[2J\x7f\x85\x9b\u2028\u202e\udc80" + "\n" + FORGED
TEXT_LINE = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00 (DEBUG|INFO|WARNING|ERROR|CRITICAL) +[\w.]+: .*|  \| .*"
)


def record(message: str, error: BaseException | None = None, **fields: object) -> logging.LogRecord:
    information = (type(error), error, error.__traceback__) if error else None
    made = logging.LogRecord("server.test", logging.INFO, "x.py", 1, message, (), information)
    made.__dict__["fields"] = fields
    return made


def test_a_line_of_json_is_one_line_of_ascii() -> None:
    line = JsonFormatter().format(record(HOSTILE, ValueError(HOSTILE), path=HOSTILE, status=200))
    assert line.isascii()
    assert line.isprintable()
    entry = json.loads(line)
    assert entry["message"] == entry["path"] == HOSTILE
    assert entry["status"] == 200
    assert entry["exception"].startswith("ValueError: ")


def test_a_line_of_text_cannot_be_forged() -> None:
    text = TextFormatter().format(record(HOSTILE, ValueError(HOSTILE), path=HOSTILE, model="a b=c", status=200))
    head, *traceback = text.split("\n")
    assert TEXT_LINE.fullmatch(head)
    assert all(line.startswith("  | ") for line in traceback)
    assert all(line.isprintable() for line in [head, *traceback])
    assert ' model="a b=c" status=200' in head
    assert text.splitlines() == text.split("\n")


def test_what_can_be_read_is_not_escaped() -> None:
    assert escape("Grüße, 你好 \\ 'x'") == "Grüße, 你好 \\ 'x'"
    assert escape("a\tb\x1b") == "a\\tb\\x1b"


class Blocked(io.StringIO):
    """A stream that nobody reads, until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.released = threading.Event()

    def write(self, text: str) -> int:
        assert self.released.wait(60)
        return super().write(text)


def test_a_stream_that_blocks_makes_nobody_wait() -> None:
    stream = Blocked()
    handler = LineHandler(stream)
    handler.setFormatter(TextFormatter())
    for number in range(3 * MAX_WAITING):
        handler.emit(record(f"line {number}"))
    handler.emit(logging.LogRecord("x", logging.INFO, "x.py", 1, "%d", ("not a number",), None))
    stream.released.set()
    handler.flush()
    numbers = [int(line.rpartition(" ")[2]) for line in stream.getvalue().splitlines()]
    # As many wait in the queue and, at most, in the hands of the thread.
    assert MAX_WAITING <= len(numbers) <= 2 * MAX_WAITING + 1
    assert numbers == sorted(set(numbers))


def test_a_closed_stream_is_survived() -> None:
    stream = io.StringIO()
    stream.close()
    handler = LineHandler(stream)
    for _ in range(3):
        handler.emit(record("x"))
    handler.flush()


def test_everything_is_written_by_the_end_of_the_process() -> None:
    code = """
import logging, threading, warnings
from server.logs import configure
configure("json", "info")
warnings.warn("a warning")
thread = threading.Thread(target=lambda: 1 / 0, name="worker")
thread.start()
thread.join()
logging.debug("not this")
for number in range(5000):
    logging.info("line %d", number)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    entries = [json.loads(line) for line in done.stderr.splitlines()]
    assert len(entries) == 5002
    assert "a warning" in entries[0]["message"]
    assert entries[1]["message"] == "thread worker failed"
    assert "ZeroDivisionError" in entries[1]["exception"]
    assert entries[-1]["message"] == "line 4999"


def hostile_requests(server: Server) -> int:
    """Send what may get into a log line; return how many requests got an answer by the application."""
    name = "x\r\n" + FORGED
    client = server.client
    part = {"file": (name, b"RIFF", "audio/wav")}
    answers = [
        client.post("/v1/encode", json={"input": "UklGRg==", "model": HOSTILE.encode("utf-8", "ignore").decode()}),
        client.post("/v1/encode", files=part, data={"model": name, name: "1"}),
        client.post("/v1/encode", params={"model": name, name: name}, content=b"RIFF"),
        client.get("/v1/models/" + "%0d%0a%1b%5b2J" + FORGED.replace(" ", "%20")),
        client.get("/%0a" + FORGED.replace(" ", "%20")),
        client.get("/health/%0a" + FORGED.replace(" ", "%20")),
    ]
    assert all(400 <= answer.status_code < 500 for answer in answers)
    raw = [
        b"GET /v1/models HTTP/1.1\r\nHost: x\r\nX-Request-Id: a\x1b[2Jb\r\nConnection: close\r\n\r\n",
        b'GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \xff\x1b\r\nX-Forwarded-For: 1\x1b[2J x="\r\n'
        b"Connection: close\r\n\r\n",
    ]
    for request in raw:
        with server.connect() as connection:
            connection.sendall(request)
            b"".join(iter(lambda: connection.recv(65536), b""))
    return len(answers)


def end(server: Server) -> list[str]:
    server.process.terminate()
    assert server.process.wait(30) == 0
    return server.log.split("\n")[:-1]


def parse_json(line: str) -> str:
    entry = json.loads(line)
    assert {"time", "level", "logger", "message"} <= entry.keys()
    return str(entry["logger"])


def parse_text(line: str) -> str:
    assert TEXT_LINE.fullmatch(line), line
    return line.split()[2].rstrip(":") if not line.startswith("  |") else ""


@pytest.mark.parametrize(("format_", "parse"), [("json", parse_json), ("text", parse_text)])
def test_no_client_forges_a_line(tmp_path: Path, format_: str, parse: Callable[[str], str]) -> None:
    with serving(tmp_path, wait=False, log_format=format_, log_level="info") as server:
        sent = hostile_requests(server)
        lines = end(server)
    loggers = [parse(line) for line in lines]
    assert all(line.isprintable() for line in lines)
    # The request to /health/%0a... is quiet like all of them; of the two raw ones, uvicorn may refuse either.
    assert sent - 1 <= loggers.count("server.access") <= sent + 1
    assert not any(line.startswith(FORGED) for line in lines)


def test_the_access_line(tmp_path: Path) -> None:
    with serving(tmp_path, wait=False, log_level="debug") as server:
        headers = {"X-Request-Id": "mine"}
        server.client.post("/v1/encode", content=b"12345", headers=headers)
        lines = end(server)
    entries = [json.loads(line) for line in lines]
    assert any(entry.get("path") == "/health/live" for entry in entries)
    [entry] = [entry for entry in entries if entry.get("request_id") == "mine"]
    assert entry["logger"] == "server.access"
    assert (entry["method"], entry["path"], entry["task"], entry["model"]) == ("POST", "/v1/encode", "encode", "none")
    assert entry["status"] == 400
    assert entry["received_bytes"] == 5
    assert entry["client"] == "127.0.0.1"
    assert 0 < entry["seconds"] < 60


@pytest.mark.parametrize(("proxies", "client"), [([], "127.0.0.1"), (["127.0.0.0/8"], "203.0.113.9")])
def test_a_proxy_that_is_trusted_says_who_the_client_is(tmp_path: Path, proxies: list[str], client: str) -> None:
    with serving(tmp_path, wait=False, trusted_proxies=json.dumps(proxies)) as server:
        server.client.post("/v1/encode", content=b"1", headers={"X-Forwarded-For": "1.1.1.1, 203.0.113.9"})
        lines = end(server)
    [entry] = [entry for entry in map(json.loads, lines) if entry["logger"] == "server.access"]
    assert entry["client"] == client


def test_the_variables_that_are_passed_over_are_named(tmp_path: Path) -> None:
    with serving(tmp_path, wait=False, service_port="8000") as server:
        lines = end(server)
    assert any("SONANT_SERVICE_PORT" in json.loads(line)["message"] for line in lines)
