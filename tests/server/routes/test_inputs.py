import base64
from typing import Any

import httpx
import pytest

from tests.server.process import Server

OPTIONS: dict[str, Any] = {"model": "tiny-ctc", "pooling": "mean", "layer": 1, "normalize": True}
AUDIO = {"Content-Type": "audio/wav"}


def answer(response: httpx.Response) -> Any:
    assert response.status_code == 200, response.text
    return response.json()


def test_the_three_bodies_give_the_same_answer(server: Server, speech: bytes) -> None:
    form = server.client.post("/v1/encode", files={"file": speech}, data=OPTIONS)
    raw = server.client.post("/v1/encode", params=OPTIONS, content=speech, headers=AUDIO)
    encoded = base64.b64encode(speech).decode()
    json = server.client.post("/v1/encode", json={"input": encoded, **OPTIONS})
    assert answer(form) == answer(raw) == answer(json)


@pytest.mark.parametrize("content_type", ["audio/wav", "audio/x-anything; rate=3", "Application/Octet-Stream", None])
def test_content_types_of_a_raw_body(server: Server, speech: bytes, content_type: str | None) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    answer(server.client.post("/v1/encode?pooling=mean", content=speech, headers=headers))


def test_options_of_a_form_may_stand_in_the_query_but_not_in_both(server: Server, speech: bytes) -> None:
    response = server.client.post("/v1/encode?pooling=mean", files={"file": speech})
    assert len(answer(response)["data"][0]["shape"]) == 1
    response = server.client.post("/v1/encode?pooling=mean", files={"file": speech}, data={"pooling": "max"})
    assert server.error(response) == (422, "option_invalid", "pooling")


def test_an_option_given_twice(server: Server, speech: bytes) -> None:
    response = server.client.post("/v1/encode?pooling=mean&pooling=max", content=speech, headers=AUDIO)
    assert server.error(response) == (422, "option_invalid", "pooling")


@pytest.mark.parametrize("path", ["/v1/transcribe", "/v1/classify"])
def test_an_empty_model_means_the_default(server: Server, speech: bytes, path: str) -> None:
    response = server.client.post(path, files={"file": speech}, data={"model": ""})
    assert answer(response)["model"] == answer(server.client.post(path, files={"file": speech}))["model"]


@pytest.mark.parametrize(
    ("path", "name", "value"),
    [
        ("/v1/encode", "layer", "-1"),
        ("/v1/encode", "layer", "99"),
        ("/v1/encode", "layer", "six"),
        ("/v1/encode", "layer", ""),
        ("/v1/encode", "pooling", "median"),
        ("/v1/encode", "normalize", "perhaps"),
        ("/v1/encode", "encoding_format", "hex"),
        ("/v1/transcribe", "beams", "0"),
        ("/v1/transcribe", "response_format", "srt"),
        ("/v1/classify", "top_k", "0"),
        ("/v1/classify", "function", "cosine"),
    ],
)
def test_values_that_an_option_cannot_have(server: Server, speech: bytes, path: str, name: str, value: str) -> None:
    response = server.client.post(path, params={name: value}, content=speech, headers=AUDIO)
    assert server.error(response) == (422, "option_invalid", name)


def test_every_answer_has_an_id_and_a_timing(server: Server, speech: bytes) -> None:
    response = server.client.post("/v1/encode", files={"file": speech}, headers={"X-Request-Id": "my-id.7"})
    assert response.headers["X-Request-Id"] == "my-id.7"
    stages = [stage.split(";")[0] for stage in response.headers["Server-Timing"].split(", ")]
    assert stages == ["decode", "queue", "inference", "total"]
    for path in ("/health/live", "/nothing", "/v1/models"):
        response = server.client.get(path, headers={"X-Request-Id": "two words"})
        assert len(response.headers["X-Request-Id"]) == 32
        assert response.headers["Server-Timing"].startswith("total;dur=")
