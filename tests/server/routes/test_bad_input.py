"""Every kind of bad input, against the real process; Server.error() checks that it still answers."""

import base64
import struct
from collections.abc import Iterator

import numpy as np
import pytest

from server.http.body import LINGER_BYTES
from server.settings import Settings
from tests.server.process import Server, noise, wav

TASKS = ["encode", "transcribe", "classify"]
MEBIBYTE = 2**20
TWO_GIGABYTES = 2 * 1024 * MEBIBYTE
AUDIO = {"Content-Type": "audio/wav"}


def post_raw(server: Server, data: bytes, task: str = "encode") -> tuple[int, str, str | None]:
    return server.error(server.client.post(f"/v1/{task}", content=data, headers=AUDIO))


def post_file(server: Server, *files: bytes, task: str = "encode") -> tuple[int, str, str | None]:
    parts = [("file", (f"{index}.wav", data)) for index, data in enumerate(files)]
    return server.error(server.client.post(f"/v1/{task}", files=parts))


@pytest.mark.parametrize("task", TASKS)
def test_an_empty_body(server: Server, task: str) -> None:
    assert post_raw(server, b"", task) == (400, "audio_empty", None)
    assert post_file(server, b"", task=task) == (400, "audio_empty", "file[0]")
    assert server.error(server.client.post(f"/v1/{task}")) == (400, "audio_empty", None)
    assert server.error(server.client.post(f"/v1/{task}", json={"input": ""})) == (400, "audio_empty", "input")


@pytest.mark.parametrize("task", TASKS)
def test_a_text_file_named_wav(server: Server, task: str) -> None:
    assert post_file(server, b"I am not audio.\n" * 100, task=task) == (400, "audio_undecodable", "file[0]")


def test_a_truncated_flac(server: Server) -> None:
    data = wav(noise(3), format_="FLAC", subtype="PCM_16")
    assert post_file(server, data[: len(data) // 2]) == (400, "audio_truncated", "file[0]")


def test_no_samples(server: Server) -> None:
    assert post_file(server, wav(noise(0))) == (400, "audio_empty", "file[0]")


def test_ten_samples(server: Server) -> None:
    response = server.client.post("/v1/encode", content=wav(noise(1)[:10]), headers=AUDIO)
    assert server.error(response) == (400, "audio_too_short", None)
    shortest = server.client.get("/v1/models/tiny-base").json()["min_seconds"]
    assert f"{shortest:.4f} s" in response.json()["error"]["message"]


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_samples_that_are_not_finite(server: Server, value: float) -> None:
    samples = noise(1)
    samples[500] = value
    assert post_file(server, wav(samples)) == (400, "audio_not_finite", "file[0]")


def test_a_ten_hour_header_on_a_kilobyte(server: Server, speech: bytes) -> None:
    data = bytearray(wav(noise(1), subtype="PCM_16")[:1024])
    data[40:44] = struct.pack("<I", 10 * 3600 * 16_000 * 2)
    response = server.client.post("/v1/encode?pooling=mean", content=bytes(data), headers=AUDIO)
    assert response.status_code == 200
    assert response.json()["data"][0]["duration"] == 490 / 16_000


def test_ten_hours_that_are_really_there(server: Server) -> None:
    silence = np.zeros(36_000 * 1_000, np.int16)  # FLAC makes 300 KB of it
    data = wav(silence.astype(np.float32), 1_000, "FLAC", "PCM_16")
    before = server.peak_kib
    assert post_file(server, data) == (413, "audio_too_long", "file[0]")
    assert server.peak_kib - before < 64 * 1024


def test_two_gigabytes_that_are_stated_are_refused_at_once(server: Server) -> None:
    before = server.peak_kib
    with server.connect() as connection:
        head = (
            f"POST /v1/encode HTTP/1.1\r\nHost: x\r\nContent-Type: audio/wav\r\nContent-Length: {TWO_GIGABYTES}\r\n\r\n"
        )
        connection.sendall(head.encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))  # the server closes
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"body_too_large" in answer
    assert b"connection: close" in answer.lower()
    assert server.peak_kib - before < 8 * 1024


@pytest.mark.parametrize(
    ("content_type", "limit"),
    [
        ("application/json", Settings().max_json_bytes),
        ("audio/wav", Settings().max_body_bytes),
        ("multipart/form-data; boundary=x", Settings().max_body_bytes),
    ],
)
def test_two_gigabytes_in_chunks_are_refused_when_they_pass_the_limit(
    server: Server, content_type: str, limit: int
) -> None:
    sent, before = 0, server.peak_kib

    def chunks() -> Iterator[bytes]:
        nonlocal sent
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
        while sent < TWO_GIGABYTES:
            sent += MEBIBYTE
            yield bytes(MEBIBYTE)

    response = server.client.post("/v1/encode", content=chunks(), headers={"Content-Type": content_type})
    assert server.error(response) == (413, "body_too_large", None)
    assert sent <= limit + LINGER_BYTES + 32 * MEBIBYTE  # what is passed over, and what the sockets hold
    assert server.peak_kib - before < 192 * 1024


def test_a_wrong_file_field(server: Server, speech: bytes) -> None:
    response = server.client.post("/v1/encode", files={"audio": ("a.wav", speech)})
    assert server.error(response) == (422, "field_unknown", "audio")
    assert "file" in response.json()["error"]["message"]


@pytest.mark.parametrize("task", TASKS)
def test_an_unknown_option(server: Server, speech: bytes, task: str) -> None:
    expected = (422, "field_unknown", "color")
    post = server.client.post
    assert server.error(post(f"/v1/{task}", files={"file": speech}, data={"color": "red"})) == expected
    assert server.error(post(f"/v1/{task}?color=red", content=speech, headers=AUDIO)) == expected
    encoded = base64.b64encode(speech).decode()
    response = post(f"/v1/{task}", json={"input": encoded, "color": "red"})
    assert server.error(response) == expected
    assert "there are: input, model" in response.json()["error"]["message"]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", ["nobody", "../tiny-base", "tiny-base/", ".", "x" * 256])
def test_an_unknown_model(server: Server, speech: bytes, task: str, name: str) -> None:
    response = server.client.post(f"/v1/{task}", files={"file": speech}, data={"model": name})
    assert server.error(response) == (404, "model_not_found", "model")


@pytest.mark.parametrize(
    ("task", "name"), [("transcribe", "tiny-base"), ("classify", "tiny-ctc"), ("transcribe", "tiny-classifier")]
)
def test_a_task_that_the_model_lacks(server: Server, speech: bytes, task: str, name: str) -> None:
    response = server.client.post(f"/v1/{task}", files={"file": speech}, data={"model": name})
    assert server.error(response) == (400, "task_not_supported", "model")


@pytest.mark.parametrize("body", [b"", b"{", b'{"input": ', b"[1, 2]", b'"text"', b"\xff\xfe", b"[" * 100_000])
def test_broken_json(server: Server, body: bytes) -> None:
    response = server.client.post("/v1/encode", content=body, headers={"Content-Type": "application/json"})
    assert server.error(response) == (400, "body_invalid", None)


@pytest.mark.parametrize("encoded", ["not base64!", "abc", "äöü", "QUJD\nQUJD", "data:audio/wav;base64,AAAA"])
def test_broken_base64(server: Server, encoded: str) -> None:
    assert server.error(server.client.post("/v1/encode", json={"input": encoded})) == (400, "base64_invalid", "input")


@pytest.mark.parametrize("value", [None, 3, [], [3], {"a": "b"}, "absent"])
def test_json_without_audio(server: Server, value: object) -> None:
    body = {} if value == "absent" else {"input": value}
    assert server.error(server.client.post("/v1/encode", json=body)) == (422, "audio_missing", "input")


def test_a_hundred_files(server: Server, speech: bytes) -> None:
    assert post_file(server, *[speech] * 100) == (413, "too_many_clips", None)
    encoded = base64.b64encode(speech).decode()
    response = server.client.post("/v1/encode", json={"input": [encoded] * 100})
    assert server.error(response) == (413, "too_many_clips", None)


def test_one_bad_file_among_good_ones_is_named(server: Server, speech: bytes) -> None:
    assert post_file(server, speech, speech, b"bad", speech) == (400, "audio_undecodable", "file[2]")
    encoded = [base64.b64encode(data).decode() for data in (speech, b"bad")]
    response = server.client.post("/v1/encode", json={"input": encoded})
    assert server.error(response) == (400, "audio_undecodable", "input[1]")


def test_a_form_without_a_file(server: Server) -> None:
    response = server.client.post("/v1/encode", files={"model": (None, "tiny-base")})
    assert server.error(response) == (422, "audio_missing", "file")


def test_a_file_that_is_sent_as_text(server: Server) -> None:
    response = server.client.post("/v1/encode", files={"file": (None, "speech.wav")})
    assert server.error(response) == (422, "audio_missing", "file")


def test_broken_multipart(server: Server) -> None:
    for content_type in ("multipart/form-data", "multipart/form-data; boundary=x"):
        response = server.client.post("/v1/encode", content=b"rubbish", headers={"Content-Type": content_type})
        assert server.error(response) == (400, "body_invalid", None)


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "image/png", "audio"])
def test_a_content_type_that_is_not_read(server: Server, speech: bytes, content_type: str) -> None:
    response = server.client.post("/v1/encode", content=speech, headers={"Content-Type": content_type})
    assert server.error(response) == (415, "media_type_not_supported", None)


def test_longer_than_the_model_takes(server: Server) -> None:
    longest = server.client.get("/v1/models/tiny-base").json()["max_seconds"]
    clip = wav(np.zeros(round(longest * 8_000) + 1, np.float32), 8_000)
    response = server.client.post("/v1/encode?windows=none", content=clip, headers=AUDIO)
    assert server.error(response) == (413, "audio_too_long", None)
    assert f"{longest:g} s" in response.json()["error"]["message"]


def test_a_path_and_a_method_that_are_not_there(server: Server) -> None:
    assert server.error(server.client.get("/v1/nothing")) == (404, "not_found", None)
    response = server.client.get("/v1/encode")
    assert server.error(response) == (405, "method_not_allowed", None)
    assert response.headers["Allow"] == "POST"


JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("beside", "expected"),
    [
        (b'"' + b"x" * 1_000_000 + b'": 1', (422, "field_unknown", "x" * 100 + "...")),
        (b'"model": "' + b"x" * 1_000_000 + b'"', (422, "option_invalid", "model")),
        (b'"layer": [' + b"0," * 1_000_000 + b"0]", (413, "too_many_fields", None)),
        (b'"layer": [' + b"0," * 300 + b"0]", (422, "option_invalid", "layer")),
        (b",".join(b'"%d": 1' % index for index in range(400)), (413, "too_many_fields", None)),
    ],
)
def test_words_and_lists_that_are_far_too_long(
    server: Server, beside: bytes, expected: tuple[int, str, str | None]
) -> None:
    response = server.client.post("/v1/encode", content=b'{"input": "AAAA", ' + beside + b"}", headers=JSON)
    assert server.error(response) == expected
    assert len(response.content) < 1000


def test_forms_and_queries_of_too_many_fields(server: Server, speech: bytes) -> None:
    many = {f"f{index}": "1" for index in range(400)}
    expected = (413, "too_many_fields", None)
    assert server.error(server.client.post("/v1/encode", files={"file": speech}, data=many)) == expected
    assert server.error(server.client.post("/v1/encode", params=many, content=speech, headers=AUDIO)) == expected
    response = server.client.post("/v1/encode", files={"file": speech}, data={"model": "x" * 100_000})
    assert server.error(response) == (422, "option_invalid", "model")


def test_base64_that_goes_on_after_its_end(server: Server) -> None:
    text = "A" * (2**20 - 2) + "==" + "AAAA"
    assert server.error(server.client.post("/v1/encode", json={"input": text})) == (400, "base64_invalid", "input")
