import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from engines.errors import EngineNotFoundError
from server.app import create_app
from server.settings import Settings
from tests.server.process import Server, noise, serving, wav

CLIPS = 200
AT_A_TIME = 16


def test_importing_the_app_pulls_in_nothing_heavy() -> None:
    code = "import sys, server.app; print({'torch', 'transformers', 'onnx', 'onnxruntime'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(EngineNotFoundError, match="nowhere"):
        create_app(Settings(models=tmp_path / "nowhere"))


@pytest.fixture(scope="module")
def recordings() -> list[bytes]:
    generator = np.random.default_rng(3)
    return [wav(noise(generator.uniform(0.05, 5), seed=seed)) for seed in range(CLIPS)]


@pytest.mark.parametrize("path", ["/v1/encode", "/v1/encode?layer=1", "/v1/transcribe", "/v1/classify"])
def test_sixteen_at_a_time_are_as_one_at_a_time(server: Server, recordings: list[bytes], path: str) -> None:
    def post(data: bytes) -> Any:
        response = server.client.post(path, content=data)
        assert response.status_code == 200, response.text
        return response.json()["data"][0]

    alone = [post(data) for data in recordings]
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        together = list(pool.map(post, recordings))
    for one, other in zip(alone, together, strict=True):
        if "encode" in path:
            a, b = np.array(one.pop("embedding")), np.array(other.pop("embedding"))
            assert np.abs(a - b).max() <= 1e-5 * np.abs(a).max()
        elif "transcribe" in path:
            # no text, no confidence
            assert (one.pop("confidence") or 0) == pytest.approx(other.pop("confidence") or 0, rel=1e-3)
        else:
            first, second = ({label["label"]: label["score"] for label in item.pop("labels")} for item in (one, other))
            assert first == pytest.approx(second, abs=1e-5)
        assert one == other


def test_clients_that_leave_harm_nobody(server: Server, recordings: list[bytes]) -> None:
    def leave(data: bytes) -> None:
        with server.connect() as connection:
            head = f"POST /v1/encode HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n".encode()
            connection.sendall((head + data)[: len(data) if len(data) % 2 else None])  # every other one sends it all

    def stay(data: bytes) -> int:
        return server.client.post("/v1/encode?pooling=mean", content=data).status_code

    with ThreadPoolExecutor(AT_A_TIME) as pool:
        leaving = [pool.submit(leave, data) for data in recordings]
        assert set(pool.map(stay, recordings)) == {200}
        for future in leaving:
            future.result()
    assert server.client.get("/health/ready").status_code == 200


def test_a_full_queue_is_429_with_retry_after(models: Path) -> None:
    # Each clip is a batch of its own, and no more than one of them may wait.
    with serving(models, defaults={"encode": "tiny-base"}, queue_seconds=1, batch_seconds=1) as server:
        longest = server.client.get("/v1/models/tiny-base").json()["max_seconds"]
        clip = wav(noise(longest - 0.1), subtype="PCM_16")

        def post(_: int) -> httpx.Response:
            return server.client.post("/v1/encode?pooling=mean", content=clip)

        with ThreadPoolExecutor(AT_A_TIME) as pool:
            answers = list(pool.map(post, range(4 * AT_A_TIME)))
        assert {answer.status_code for answer in answers} == {200, 429}
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert server.error(refused) == (429, "queue_full", None)
        assert 1 <= int(refused.headers["Retry-After"]) <= 60
        assert refused.json()["error"]["type"] == "rate_limit_error"


def test_sigterm_while_idle(models: Path) -> None:
    with serving(models) as server:
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(10) == 0


def test_sigterm_under_load_finishes_what_was_admitted(models: Path) -> None:
    with serving(models, defaults={"encode": "tiny-base"}) as server:
        part = ("file", ("a.wav", wav(noise(20), subtype="PCM_16")))
        sent = threading.Event()

        def body() -> Iterator[bytes]:
            yield request.content
            sent.set()

        request = httpx.Request("POST", f"{server.client.base_url}/v1/encode?pooling=mean", files=[part] * 8)
        request.read()
        headers = {"Content-Type": request.headers["Content-Type"]}
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(server.client.post, "/v1/encode?pooling=mean", content=body(), headers=headers)
            assert sent.wait(10)
            time.sleep(0.1)
            server.process.send_signal(signal.SIGTERM)
            assert answer.result().status_code == 200
        assert server.process.wait(20) == 0
        with pytest.raises(httpx.ConnectError):
            server.client.get("/health/live")


@pytest.mark.parametrize("signal_", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_models_load(models: Path, signal_: signal.Signals) -> None:
    with serving(models, wait=False) as server:
        server.process.send_signal(signal_)
        assert server.process.wait(10) == 0
        assert "Traceback" not in server.log
