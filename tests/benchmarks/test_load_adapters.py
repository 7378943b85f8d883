from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from email.parser import BytesParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from benchmarks import models
from benchmarks.load import adapters, drive
from benchmarks.load.adapters.base import Result, difference
from benchmarks.load.client import Answer, Client, Request
from benchmarks.load.process import Server, serving

CLIP = models.clips(1, 1.0, 16_000, seed=0)[0]
ENGINE = Path(__file__).parents[2] / "demo/engines/hubert-ctc-english"
VECTOR = np.array([0.5, -1.25, 3.0], np.float32)


def answer(body: bytes, **headers: str) -> Answer:
    return Answer(200, {name.replace("_", "-"): value for name, value in headers.items()}, body)


def headers_of(request: Request) -> Any:
    return BytesParser().parsebytes(request.head.partition(b"\r\n")[2])


def test_raw_sends_a_wav_file_and_reads_a_vector() -> None:
    adapter = adapters.make("raw", {"path": "/embed"})
    request = adapter.request(CLIP, 16_000)
    assert request.head.startswith(b"POST /embed HTTP/1.1\r\n")
    clip, rate = soundfile.read(io.BytesIO(request.body), dtype="float32")
    assert (rate, request.seconds) == (16_000, 1.0)
    assert np.abs(clip - CLIP).max() < 2**-15
    assert difference(adapter.result(answer(json.dumps({"embedding": VECTOR.tolist()}).encode())), VECTOR) == 0
    encoded = base64.b64encode(VECTOR.tobytes()).decode()
    assert (
        difference(
            adapters.make("raw", {"form": "base64"}).result(answer(f'{{"embedding": "{encoded}"}}'.encode())), VECTOR
        )
        == 0
    )


@pytest.mark.parametrize(
    "body", [b"", b"oops", b"{}", b"[]", b'{"embedding": []}', b'{"embedding": [NaN]}', b'{"embedding": [[1], [1, 2]]}']
)
def test_what_is_no_result_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match="the answer"):
        adapters.make("raw", {}).result(answer(body))


@pytest.mark.parametrize("body", [b"", b"oops", b"[]", b'{"data": [{"embedding": "?", "shape": [1]}]}'])
@pytest.mark.parametrize("media", ["application/json", "application/x-npy"])
def test_what_is_no_answer_of_sonant_is_refused(body: bytes, media: str) -> None:
    with pytest.raises(ValueError, match="the answer"):
        adapters.make("sonant", {"format": "base64"}).result(answer(body, content_type=media))


def test_openai_sends_a_form() -> None:
    request = adapters.make("openai", {"model": "whisper-1"}).request(CLIP, 16_000)
    assert request.head.startswith(b"POST /v1/audio/transcriptions HTTP/1.1\r\n")
    message = BytesParser().parsebytes(
        b"Content-Type: " + headers_of(request)["Content-Type"].encode() + b"\r\n\r\n" + request.body
    )
    parts = {
        part.get_param("name", header="Content-Disposition"): part for part in message.walk() if not part.is_multipart()
    }
    assert sorted(map(str, parts)) == ["file", "model", "response_format"]
    assert parts["model"].get_payload() == "whisper-1"
    assert parts["file"].get_filename() == "clip.wav"
    assert adapters.make("openai", {}).result(answer(b'{"text": "hello"}')) == "hello"


def test_triton_sends_and_reads_tensors() -> None:
    """No Triton server is here: the request is read, and the answer written, as its protocol says."""
    adapter = adapters.make("triton", {"model": "encoder", "lengths": "LENGTHS"})
    request = adapter.request(CLIP, 16_000)
    assert request.head.startswith(b"POST /v2/models/encoder/infer HTTP/1.1\r\n")
    length = int(headers_of(request)["Inference-Header-Content-Length"])
    asked = json.loads(request.body[:length])
    waveform, lengths = asked["inputs"]
    assert waveform == {
        "name": "WAVEFORM", "datatype": "FP32", "shape": [1, 16_000], "parameters": {"binary_data_size": 64_000}
    }  # fmt: skip
    assert np.array_equal(np.frombuffer(request.body[length : length + 64_000], "<f4"), CLIP)
    assert lengths["name"] == "LENGTHS"
    assert np.frombuffer(request.body[length + 64_000 :], "<i8").tolist() == [16_000]
    assert asked["outputs"] == [{"name": "EMBEDDINGS", "parameters": {"binary_data": True}}]

    other = {"name": "OTHER", "datatype": "FP16", "shape": [2], "parameters": {"binary_data_size": 4}}
    wanted = {"name": "EMBEDDINGS", "datatype": "FP32", "shape": [1, 3], "parameters": {"binary_data_size": 12}}
    head = json.dumps({"outputs": [other, wanted]}).encode()
    body = head + np.zeros(2, "<f2").tobytes() + VECTOR.astype("<f4").tobytes()
    found = adapter.result(answer(body, inference_header_content_length=str(len(head))))
    assert difference(found, VECTOR[np.newaxis]) == 0
    plain = {"name": "EMBEDDINGS", "datatype": "FP32", "shape": [1, 3], "data": VECTOR.tolist()}
    assert difference(adapter.result(answer(json.dumps({"outputs": [plain]}).encode())), VECTOR[np.newaxis]) == 0
    with pytest.raises(ValueError, match="no output EMBEDDINGS"):
        adapter.result(answer(json.dumps({"outputs": [other]}).encode()))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving({"ctc": ENGINE}, 1, {"calibrate": "off"}) as running:
        yield running


def ask(server: Server, kind: str, **options: str) -> Result:
    adapter = adapters.make(kind, {"model": "ctc", **options})
    client = Client(server.port)

    async def once() -> Answer:
        found = await client.ask(adapter.request(CLIP, 16_000))
        client.close()
        return found

    found = drive.run(once)
    assert found.status == 200, found.body
    return adapter.result(found)


def test_sonant_reads_all_formats_alike(server: Server) -> None:
    frames = ask(server, "sonant", format="npy", timeout="30")
    assert isinstance(frames, np.ndarray)
    assert frames.shape == (47, 144)
    assert difference(ask(server, "sonant", format="base64"), frames) < 1e-6
    assert difference(ask(server, "sonant", format="json"), frames) < 1e-6
    assert difference(ask(server, "sonant"), frames.mean(axis=0)) < 1e-5


def test_sonant_and_openai_read_the_same_text(server: Server) -> None:
    assert ask(server, "sonant", task="transcribe") == ask(server, "openai")


def test_sonant_reads_scores_by_label() -> None:
    labels = [{"label": "b", "score": 0.75}, {"label": "a", "score": 0.25}]
    body = json.dumps({"data": [{"index": 0, "labels": labels}]}).encode()
    found = adapters.make("sonant", {"task": "classify"}).result(answer(body, content_type="application/json"))
    assert difference(found, np.array([0.25, 0.75], np.float32)) == 0


def test_the_error_of_a_text_is_whether_it_differs() -> None:
    assert difference("one", "one") == 0
    assert difference("one", "two") == 1
    assert difference(VECTOR, "one") == 1
    assert difference(VECTOR[:2], VECTOR) == float("inf")


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("raw", {"color": "red"}, "no option color: it has path, form"),
        ("raw", {"form": "xml"}, "form=xml: choose one of list, base64"),
        ("sonant", {"task": "sing"}, "task=sing: choose one of encode"),
        ("sonant", {"format": "xml"}, "format=xml: choose one of"),
    ],
)
def test_an_option_that_there_is_not_is_refused(kind: str, options: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        adapters.make(kind, options)
