"""A server that answers as it is told, to see what a client makes of it."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Answer:
    """What comes back, after so many seconds; status 0 breaks the connection instead."""

    status: int = 200
    content: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass
class Asked:
    """A request that came."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    port: int  # of the client: that of its connection


def refusal(status: int, code: str | None, retry_after: str | None = None, param: str | None = None) -> Answer:
    """An error, as the server tells it."""
    headers = {"X-Request-Id": "abc"} | ({} if retry_after is None else {"Retry-After": retry_after})
    error = {"message": "it cannot be", "type": "t", "param": param, "code": code}
    return Answer(status, {"error": error}, headers)


class Scripted:
    """Gives `answers` in their order, the last one for good."""

    def __init__(self, *answers: Answer) -> None:
        self.asked: list[Asked] = []
        self._answers = list(answers)
        self._lock = threading.Lock()
        self.url = ""

    def next(self, asked: Asked) -> Answer:
        with self._lock:
            self.asked.append(asked)
            return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


@contextmanager
def scripted(*answers: Answer) -> Iterator[Scripted]:
    """Run the server."""
    script = Scripted(*answers)
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(script.next)) as server:
        script.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield script
        finally:
            server.shutdown()
            thread.join()


def _handler(answer_to: Callable[[Asked], Answer]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            if self.headers.get("Transfer-Encoding") == "chunked":
                body = b"".join(iter(self._chunk, b""))
            else:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            answer = answer_to(Asked(self.path, dict(self.headers), body, self.client_address[1]))
            time.sleep(answer.seconds)
            if answer.status == 0:
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            content = answer.content if isinstance(answer.content, bytes) else json.dumps(answer.content).encode()
            self.send_response(answer.status)
            for name, value in {"Content-Length": str(len(content)), **answer.headers}.items():
                self.send_header(name, value)
            with suppress(ConnectionError):  # a client that did not wait
                self.end_headers()
                self.wfile.write(content)

        do_GET = do_POST  # noqa: N815

        def _chunk(self) -> bytes:
            size = int(self.rfile.readline(), 16)
            data = self.rfile.read(size)
            self.rfile.readline()
            return data

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    return Handler
