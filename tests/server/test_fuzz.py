"""Whatever is sent, no answer is a 500, and the server goes on."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.core.result import Ok

from benchmarks.load.client import Client, Request
from tests.server.audio.mutations import damaged, originals
from tests.server.process import Server, noise, serving, wav

NAME = "hubert-intent-english"
AT_A_TIME = 8
WAV = wav(noise(0.3), subtype="PCM_16")
ENCODED = base64.b64encode(WAV).decode()
BOUNDARY = b"boundary"
BODIES = {
    "application/json": json.dumps({"input": [ENCODED], "model": NAME, "pooling": "mean", "timeout": 10}).encode(),
    f"multipart/form-data; boundary={BOUNDARY.decode()}": b"\r\n".join(
        [
            *(b"--" + BOUNDARY, b'Content-Disposition: form-data; name="file"; filename="a.wav"', b"", WAV),
            *(b"--" + BOUNDARY, b'Content-Disposition: form-data; name="pooling"', b"", b"mean"),
            *(b"--" + BOUNDARY + b"--", b""),
        ]
    ),
}
many = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    models = tmp_path_factory.mktemp("models")
    (models / NAME).symlink_to(Path(__file__).parents[2] / "demo" / "engines" / NAME)
    with serving(models, defaults={"encode": NAME}, calibrate="off") as running:
        yield running


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=many)])
def test_damaged_audio(server: Server, count: int) -> None:
    files = itertools.islice(damaged(originals(), seed=count), count)
    statuses = post(server, [Request.post("/v1/encode?pooling=mean", data, 0.0, {}) for data in files])
    assert set(statuses) <= {200, 400, 413}
    assert statuses[200] > count / 10
    assert statuses[400] > count / 10


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=many)])
@pytest.mark.parametrize("media", BODIES)
def test_damaged_bodies(server: Server, media: str, count: int) -> None:
    bodies = itertools.islice(damaged([BODIES[media]], seed=count), count)
    statuses = post(server, [Request.post("/v1/encode", data, 0.0, {"Content-Type": media}) for data in bodies])
    assert set(statuses) <= {200, 400, 404, 413, 422, 429, 504}  # a timeout may be one by now that nothing can keep
    assert statuses[400] + statuses[422] > count / 10


def post(server: Server, requests: list[Request]) -> Counter[int]:
    """Return how often there was which status, after a look at whether the server lives."""

    async def ask_all() -> Counter[int]:
        client, following = Client(server.port), iter(requests)
        statuses: Counter[int] = Counter()

        async def ask_in_turn() -> None:
            for request in following:
                answer = await client.ask(request)
                statuses[answer.status] += 1
                assert answer.status == 200 or json.loads(answer.body)["error"]["code"]

        await asyncio.gather(*(ask_in_turn() for _ in range(AT_A_TIME)))
        client.close()
        return statuses

    statuses = asyncio.run(ask_all())
    assert server.process.poll() is None, server.log
    assert server.client.get("/health/ready").status_code == 200
    return statuses


@pytest.mark.parametrize("count", [10, pytest.param(500, marks=many)])
def test_requests_made_from_the_openapi_document(server: Server, count: int) -> None:
    schema = schemathesis.openapi.from_dict(server.client.get("/openapi.json").json())
    operations = [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]
    assert {"/v1/encode", "/v1/transcribe", "/v1/classify", "/v1/models"} <= {each.path for each in operations}
    for operation in operations:
        fuzz(server, operation.as_strategy(), count)
        if operation.body or list(operation.query):  # else nothing about it can be wrong: a name may be any text
            fuzz(server, operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE), count)
    assert server.process.poll() is None, server.log
    assert server.client.get("/health/ready").status_code == 200


def fuzz(server: Server, cases: st.SearchStrategy[Any], count: int) -> None:
    """Send `count` requests, every other one with audio where a file belongs."""

    @settings(max_examples=count, suppress_health_check=list(HealthCheck))
    @given(case=cases, audible=st.booleans())
    def send(case: Any, audible: bool) -> None:
        if audible:
            case.body = with_audio(case.body)
        answer = case.call(base_url=str(server.client.base_url), timeout=60)
        assert answer.status_code < 500 or answer.status_code == 504, case.as_curl_command()  # a timeout of 1e-9 s

    send()


def with_audio(body: Any) -> Any:
    """Return `body` with audio in the fields that hold it."""
    audio = {"input": ENCODED, "file": WAV}
    if isinstance(body, dict):
        return {name: audio.get(name, value) for name, value in body.items()}
    return WAV if isinstance(body, bytes) else body
