"""deploy/docker: the programs that run inside of the images, and while they are built."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections import namedtuple
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy.docker import check_base

HEALTHCHECK = Path(__file__).parent.parent.parent / "deploy" / "docker" / "healthcheck.py"
Version = namedtuple("Version", "major minor micro releaselevel serial")


@contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """A server at the port that is yielded, which gives `answer` once."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


def health(port: int) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"SONANT_PORT": str(port)}
    return subprocess.run(
        [sys.executable, "-I", HEALTHCHECK], env=environment, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize(
    ("status", "code"), [("200 OK", 0), ("503 Service Unavailable", 1), ("404 Not Found", 1), ("2000", 1)]
)
def test_healthy_is_ready(status: str, code: int) -> None:
    body = '{"status":"…"}'
    with answering(f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n\r\n{body}".encode()) as port:
        done = health(port)
    assert (done.returncode, done.stdout.strip()) == (code, body)


def test_what_is_no_answer_is_not_healthy() -> None:
    with answering(b"") as port:
        assert health(port).returncode == 1
    done = health(port)
    assert done.returncode == 1
    assert f"nobody answers at port {port}" in done.stdout


def test_this_python_can_be_a_base() -> None:
    assert check_base.wrong() is None


@pytest.mark.parametrize(("minor", "fits"), [(10, False), (11, True), (13, True), (14, False)])
def test_pythons(monkeypatch: pytest.MonkeyPatch, minor: int, fits: bool) -> None:
    monkeypatch.setattr("sys.version_info", Version(3, minor, 0, "final", 0))
    assert (check_base.wrong() is None) is fits


def test_what_is_wrong_with_an_image_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("platform.libc_ver", lambda: ("", ""))
    monkeypatch.setattr("sys.argv", ["check_base.py", "python:3.12-alpine"])
    assert check_base.main() == 1
    assert "python:3.12-alpine has no glibc" in capsys.readouterr().err
