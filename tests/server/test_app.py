import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from engines.errors import EngineNotFoundError
from server.app import create_app
from server.settings import Settings
from tests.server.faulty import PROGRAM, poisoned
from tests.server.process import Server, noise, serving, until, wav

CLIPS = 80
AT_A_TIME = 16
SOON = 60  # seconds, for what takes one on an idle machine


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
    # Each clip is a batch of its own. No more than one of them may wait, beside one that is next if it is quick.
    with serving(models, program=PROGRAM, defaults={"encode": "tiny-base"}, queue_seconds=1, batch_seconds=1) as server:

        def post(clip: NDArray[np.float32]) -> httpx.Response:
            return server.client.post("/v1/encode?pooling=mean", content=wav(clip))

        clip = noise(1)
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            with server.held(lambda: post(poisoned(clip, "hold"))) as held:
                others = [pool.submit(post, clip) for _ in range(AT_A_TIME)]
                until(lambda: sum(other.done() for other in others) >= AT_A_TIME - 2)
            answers = [held.result(), *(other.result() for other in others)]
        assert [answer.status_code for answer in answers].count(200) in (2, 3)
        refused = next(answer for answer in answers if answer.status_code != 200)
        assert server.error(refused) == (429, "queue_full", None)
        assert 1 <= int(refused.headers["Retry-After"]) <= 60
        assert refused.json()["error"]["type"] == "rate_limit_error"


def test_sigterm_while_idle(models: Path) -> None:
    with serving(models) as server:
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(SOON) == 0


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
            assert sent.wait(SOON)
            until(lambda: server.metric("sonant_requests_in_progress") == 2 or answer.done())  # one asks for this
            server.process.send_signal(signal.SIGTERM)
            assert answer.result().status_code == 200
        assert server.process.wait(SOON) == 0
        with pytest.raises(httpx.ConnectError):
            server.client.get("/health/live")


@pytest.mark.parametrize("signal_", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_models_load(models: Path, signal_: signal.Signals) -> None:
    with serving(models, wait=False) as server:
        server.process.send_signal(signal_)
        assert server.process.wait(SOON) == 0
        assert "Traceback" not in server.log
