import base64
import resource
from typing import Any

import httpx
import pytest

from tests.server.process import Server, noise, wav

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
        ("/v1/transcribe", "response_format", "docx"),
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
    assert stages == ["decode", "queue", "inference", "postprocess", "total"]
    for path in ("/health/live", "/nothing", "/v1/models"):
        response = server.client.get(path, headers={"X-Request-Id": "two words"})
        assert len(response.headers["X-Request-Id"]) == 32
        assert response.headers["Server-Timing"].startswith("total;dur=")


def test_a_request_that_is_not_done_in_time_is_504_and_its_clips_are_dropped(server: Server) -> None:
    part = ("file", ("long.wav", wav(noise(20), subtype="PCM_16")))
    before = server.metric("sonant_engine_audio_seconds_total")
    response = server.client.post("/v1/encode?pooling=mean&timeout=0.01", files=[part] * 16)
    assert server.error(response) == (504, "deadline_exceeded", "timeout")
    assert response.json()["error"]["type"] == "timeout_error"
    assert answer(server.client.post("/v1/encode?pooling=mean&timeout=60", files=[part]))
    assert server.metric("sonant_engine_audio_seconds_total") - before <= 3 * 20  # the last, and at most what ran


@pytest.mark.parametrize("timeout", ["0", "-1", "nan", "inf", "soon", "601"])
def test_a_timeout_that_cannot_be(server: Server, speech: bytes, timeout: str) -> None:
    response = server.client.post(f"/v1/encode?timeout={timeout}", content=speech, headers=AUDIO)
    assert server.error(response) == (422, "option_invalid", "timeout")


def test_an_upload_that_cannot_be_stored(server: Server) -> None:
    limits = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (1 << 20, limits[1]))  # in place of a full disk
    try:
        refused = server.client.post("/v1/encode", files={"file": wav(noise(20), subtype="FLOAT")})  # 1.28 MB
        assert server.error(refused) == (507, "storage_full", None)
    finally:
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, limits)
    answer(server.client.post("/v1/encode?pooling=mean", files={"file": wav(noise(20), subtype="FLOAT")}))


@pytest.mark.parametrize("charset", ["punycode", "idna", "unicode_escape", "undefined", "utf-7", "UTF-16"])
def test_a_form_in_another_charset_is_not_decoded(server: Server, speech: bytes, charset: str) -> None:
    part = b'--B\r\nContent-Disposition: form-data; name="model"\r\n\r\n' + 200_000 * b"a" + b"\r\n--B--\r\n"
    headers = {"Content-Type": f"multipart/form-data; boundary=B; charset={charset}"}
    before = server.metric("process_cpu_seconds_total")
    response = server.client.post("/v1/encode", content=part, headers=headers)
    assert server.error(response) == (415, "media_type_not_supported", None)
    assert server.metric("process_cpu_seconds_total") - before < 2  # to decode it takes the longer the longer it is
    files = {"file": ("a.wav", speech)}
    request = server.client.build_request("POST", "/v1/encode?pooling=mean", files=files)
    request.headers["Content-Type"] += "; charset=UTF-8"
    answer(server.client.send(request))
