"""The real server as a process, and audio to send to it."""

from __future__ import annotations

import io
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

import httpx
import numpy as np
import soundfile
from numpy.typing import NDArray

STARTED_WITHIN_SECONDS = 120  # for what takes three on an idle machine
# Below the ports that the system gives to connections: one of those would be taken again before the server has it.
PORTS = range(20_000, 32_000)
PATIENCE_SECONDS = 60
HELD, GO = "held", "go"  # files that say that an engine is held, and that it may go on

T = TypeVar("T")


@dataclass
class Server:
    """A running server; `client` talks to it."""

    process: subprocess.Popen[bytes]
    client: httpx.Client
    port: int
    log_file: BinaryIO  # not a pipe: nobody would empty it
    cache: Path  # its own

    @property
    def log(self) -> str:
        """What it has printed so far."""
        number = self.log_file.fileno()
        # Not `seek` and `read`: the process writes where this file stands, over what it has printed.
        return os.pread(number, os.fstat(number).st_size, 0).decode()

    def error(self, response: httpx.Response) -> tuple[int, str, str | None]:
        """Check the envelope of `response`, and that the server lives; return status, code and param."""
        error = response.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert error["message"]
        assert "Traceback" not in response.text
        assert self.client.get("/health/ready").status_code == 200
        return response.status_code, error["code"], error["param"]

    @contextmanager
    def held(self, ask: Callable[[], T]) -> Iterator[Future[T]]:
        """Keep an engine of tests.server.faulty at a clip that holds it, which `ask` sends; then let it go."""
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(ask)
            try:
                until((self.cache / HELD).exists)
                yield answer
            finally:
                (self.cache / GO).touch()
                wait([answer])
        until(lambda: not (self.cache / HELD).exists())  # the answer may not have waited for the engine
        (self.cache / GO).unlink()

    def metric(self, name: str) -> float:
        """Return the sum of a metric over its labels."""
        lines = self.client.get("/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith((f"{name}{{", f"{name} ")))

    def connect(self) -> socket.socket:
        """Return a connection for what a well-behaved client does not send."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_SECONDS)

    def wait_for(self, path: str) -> None:
        """Wait until `path` answers 200."""
        deadline = time.monotonic() + STARTED_WITHIN_SECONDS
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log
            with suppress(httpx.TransportError):
                if self.client.get(path).status_code == 200:
                    return
            time.sleep(0.05)
        raise AssertionError(f"{path} did not answer 200 within {STARTED_WITHIN_SECONDS} s: {self.log}")

    @property
    def peak_kib(self) -> int:
        """Return the most memory that the process has had."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        [line] = [line for line in status.splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1])


def until(condition: Callable[[], object]) -> None:
    """Wait for what takes a second on an idle machine."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end, "it never happens"
        time.sleep(0.01)


@contextmanager
def serving(
    models: Path,
    *,
    wait: bool = True,
    defaults: Mapping[str, str] | None = None,
    program: Sequence[str] = ("-m", "sonant.cli"),
    port: int | None = None,
    **settings: float | str,
) -> Iterator[Server]:
    """Run `sonant serve` with `settings` in its environment, on a free port; `wait`: until it is ready."""
    port = port or free_port()
    command = [sys.executable, *program, "serve", f"--models={models}", f"--port={port}", "--threads=1"]
    command += [f"--default={task}={name}" for task, name in (defaults or {}).items()]
    # A calibration would measure while nothing is asked; one that the user has would change what is tested.
    environment = (
        os.environ
        | {"SONANT_CALIBRATE": "off"}
        | {f"SONANT_{name.upper()}": str(value) for name, value in settings.items()}
    )
    with (
        tempfile.TemporaryFile() as log,
        tempfile.TemporaryDirectory() as cache,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_SECONDS) as client,
        subprocess.Popen(
            command, env={"SONANT_CACHE": cache} | environment, stdout=log, stderr=subprocess.STDOUT
        ) as process,
    ):
        server = Server(process, client, port, log, Path(cache))
        try:
            server.wait_for("/health/ready" if wait else "/health/live")
            yield server
        finally:
            if process.poll() is None:
                process.kill()


def free_port() -> int:
    """Return a port that nobody listens on."""
    while True:
        port = secrets.choice(PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def noise(seconds: float, rate: int = 16_000, seed: int = 0) -> NDArray[np.float32]:
    """Return noise whose loudness changes, so that models have something to tell apart."""
    generator = np.random.default_rng(seed)
    samples = generator.standard_normal(round(seconds * rate))
    return np.asarray(0.1 * samples * (1 + np.sin(np.arange(samples.size) / rate * 9)), np.float32)


def wav(samples: NDArray[np.float32], rate: int = 16_000, format_: str = "WAV", subtype: str = "FLOAT") -> bytes:
    """Return `samples` as a file."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=format_, subtype=subtype)
    return file.getvalue()
