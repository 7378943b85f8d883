"""The examples of /openapi.json: requests, and what the demo answers.

`python -m tests.server.examples` writes them anew.
"""

from __future__ import annotations

import base64
import io
import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import soundfile

from server.openapi import EXAMPLES
from tests.documents import ROOT, demo
from tests.server.process import Server, serving

MULTIPART, JSON = "multipart/form-data", "application/json"
NPY, OPUS = "application/x-npy", "audio/ogg"
# The routes that take audio can all fail in the same ways.
AUDIO = ("encode", "transcribe", "classify", "transcriptions", "translations")
ALL = (*AUDIO, "list_models", "get_model", "load_model", "unload_model", "metrics")
RECORDING = "demo/audio/switch-lamp-garage.flac"
KEY_HASH = "0" * 64

Example = dict[str, Any]


@dataclass(frozen=True)
class Call:
    """A request: `body` has the form of what OpenAPI shows of it.

    That is a JSON value, the fields of a form with paths in the place of files, or bytes.
    """

    operation: str
    path: str
    name: str = ""
    summary: str = ""
    method: str = "POST"
    media: str = JSON
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Failure:
    """A request that fails, and the operations whose requests can fail like this."""

    call: Call
    operations: tuple[str, ...] = AUDIO


def how_warm() -> bytes:
    """Return "how warm", a spoken beginning of a recording, as the smallest file that the demo still understands."""
    samples, rate = soundfile.read(ROOT / "demo" / "audio" / "warm-tomorrow-morning.flac", frames=9600, dtype="float32")
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="OGG", subtype="OPUS", compression_level=0.97)
    return file.getvalue()


def calls(audio: bytes) -> Iterator[Call]:
    """Yield the requests that are shown with their answers."""
    encoded = base64.b64encode(audio).decode()
    translator = "hubert-translate-english-german"
    yield Call("encode", "/v1/encode", "pooled", "One vector", body={"input": encoded, "pooling": "mean"})
    yield Call(
        "encode",
        "/v1/encode",
        "layers",
        "Two hidden states of a file, one vector each, as base64",
        media=MULTIPART,
        body={
            "file": [RECORDING],
            "model": "hubert-ctc-english",
            "layer": [0, 3],
            "pooling": "mean",
            "encoding_format": "base64",
        },
    )
    yield Call("transcribe", "/v1/transcribe", "text", "A text", body={"input": encoded})
    yield Call(
        "transcribe",
        "/v1/transcribe",
        "words",
        "A file, with the times of its words",
        media=MULTIPART,
        body={"file": [RECORDING], "timestamps": "word"},
    )
    yield Call(
        "transcribe", "/v1/transcribe", "subtitles", "Subtitles", body={"input": encoded, "response_format": "srt"}
    )
    yield Call("classify", "/v1/classify", "labels", "The two best labels", body={"input": encoded, "top_k": 2})
    yield Call(
        "classify",
        "/v1/classify",
        "several",
        "Two files, by another model than the default",
        media=MULTIPART,
        body={
            "file": ["demo/audio/words/no.flac", "demo/audio/words/louder.flac"],
            "model": "sew-commands-english",
            "top_k": 1,
        },
    )
    for task in ("encode", "transcribe", "classify"):
        yield Call(task, f"/v1/{task}", "body", "The file itself, with the defaults", media="audio/*", body=audio)
    yield Call(
        "transcriptions",
        "/v1/audio/transcriptions",
        "text",
        "A text",
        media=MULTIPART,
        body={"file": RECORDING, "model": "hubert-ctc-english"},
    )
    yield Call(
        "transcriptions",
        "/v1/audio/transcriptions",
        "verbose",
        "The times of words",
        media=MULTIPART,
        body={
            "file": RECORDING,
            "model": "hubert-ctc-english",
            "response_format": "verbose_json",
            "timestamp_granularities[]": ["word"],
        },
    )
    yield Call(
        "transcriptions",
        "/v1/audio/transcriptions",
        "stream",
        "The text in events",
        media=MULTIPART,
        body={"file": RECORDING, "model": "hubert-ctc-english", "stream": True},
    )
    yield Call(
        "translations",
        "/v1/audio/translations",
        "text",
        "A text in German",
        media=MULTIPART,
        body={"file": RECORDING, "model": translator},
    )
    yield Call("list_models", "/v1/models", "models", "Those of the demo", "GET")
    yield Call("get_model", "/v1/models/hubert-intent-english", "model", "A model that classifies", "GET")
    yield Call("ready", "/health/ready", "ready", "All models are served", "GET")
    yield Call("live", "/health/live", "live", "The process answers", "GET")


def failures(audio: bytes) -> Iterator[Failure]:
    """Yield the requests that are answered with the errors that are shown."""
    encoded = base64.b64encode(audio).decode()

    def encode(**fields: Any) -> Call:
        return Call("encode", "/v1/encode", body={"input": encoded, "pooling": "mean"} | fields)

    yield Failure(Call("encode", "/v1/encode", media="audio/wav", body=b"no audio"))
    yield Failure(Call("encode", "/v1/encode", media="audio/ogg", body=b""))
    yield Failure(Call("encode", "/v1/encode", media="audio/wav", body=wav_of(10)))
    yield Failure(Call("encode", "/v1/encode", media=JSON, body=b"{"))
    yield Failure(encode(input=[encoded, "%"]))
    yield Failure(encode(model="nothing"), (*AUDIO, "get_model", "load_model", "unload_model"))
    yield Failure(Call("classify", "/v1/classify", body={"input": encoded, "model": "hubert-ctc-english"}))
    yield Failure(encode(model="ast-sound-events", input=base64.b64encode(wav_of(32_000)).decode(), windows="none"))
    yield Failure(Call("encode", "/v1/encode", media="text/plain", body=b"some"))
    yield Failure(encode(pooling="median"))
    yield Failure(encode(layr=3))
    yield Failure(encode(input=[]))
    yield Failure(encode(layer=99))
    yield Failure(encode(timeout=1e-6))
    accept = {"Accept": "text/html"}
    yield Failure(Call("encode", "/v1/encode", body={"input": encoded}, headers=accept), ("encode",))


def refusals() -> Iterator[Failure]:
    """Yield requests that a server with keys refuses."""
    yield Failure(Call("list_models", "/v1/models", method="GET"), ALL)
    yield Failure(Call("list_models", "/v1/models", method="GET", headers={"X-API-Key": "wrong"}), ALL)
    yield Failure(Call("metrics", "/metrics", method="GET"), ALL)


def wav_of(samples: int) -> bytes:
    """Return silence."""
    file = io.BytesIO()
    soundfile.write(file, [0.0] * samples, 16_000, format="WAV", subtype="PCM_16")
    return file.getvalue()


def send(server: Server, call: Call) -> httpx.Response:
    """Send a request as it is shown."""
    if call.media == MULTIPART:
        names = call.body["file"] if isinstance(call.body["file"], list) else [call.body["file"]]
        files = [("file", (Path(name).name, (ROOT / name).read_bytes())) for name in names]
        fields = {name: value for name, value in call.body.items() if name != "file"}  # httpx makes text of numbers
        return server.client.request(call.method, call.path, files=files, data=fields, headers=call.headers)
    if isinstance(call.body, bytes):
        headers = {"Content-Type": call.media.replace("*", "ogg"), **call.headers}
        return server.client.request(call.method, call.path, content=call.body, headers=headers)
    return server.client.request(call.method, call.path, json=call.body, headers=call.headers)


def make(server: Server, audio: bytes) -> Example:
    """Return what server/examples.json has, of the demo that `server` runs."""
    operations: dict[str, dict[str, dict[str, Example]]] = {}
    shared: dict[str, Example] = {}

    def show(operation: str, part: str, media: str, name: str, example: Example) -> None:
        operations.setdefault(operation, {}).setdefault(part, {}).setdefault(media, {})[name] = example

    def fail(failure: Failure, response: httpx.Response) -> None:
        assert response.status_code >= 400, response.text
        code = response.json()["error"]["code"]
        shared[code] = {"summary": code, "value": response.json()}
        for operation in failure.operations:
            show(operation, str(response.status_code), JSON, code, {"$ref": f"#/components/examples/{code}"})

    for call in calls(audio):
        response = send(server, call)
        assert response.status_code == 200, response.text
        if call.body is not None:
            show(call.operation, "requestBody", call.media, call.name, shown(call.summary, call.body))
        media = response.headers["content-type"].partition(";")[0]
        value = response.json() if media == JSON else response.text
        show(call.operation, "200", media, call.name, shown(call.summary, value))
    for failure in failures(audio):
        fail(failure, send(server, failure.call))
    with tempfile.TemporaryDirectory() as empty:
        keys = json.dumps({"mine": KEY_HASH})
        with serving(Path(empty), wait=False, api_keys=keys) as guarded:
            for failure in refusals():
                fail(failure, send(guarded, failure.call))
    return {"shared": shared, "operations": operations}


def shown(summary: str, value: Any) -> Example:
    """Return an OpenAPI example; bytes, which JSON does not have, stand in the address of what is shown."""
    if isinstance(value, bytes):
        return {"summary": summary, "externalValue": f"data:{OPUS};base64,{base64.b64encode(value).decode()}"}
    return {"summary": summary, "value": value}


if __name__ == "__main__":
    with demo() as running:
        made = make(running, how_warm())
    EXAMPLES.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n")
