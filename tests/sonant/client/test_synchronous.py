from __future__ import annotations

import inspect
import io
import json
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from sonant import client
from sonant.client import (
    AnswerError,
    AsyncClient,
    AuthenticationError,
    Client,
    ConnectionFailedError,
    NotFoundError,
    RateLimitError,
    RequestRefusedError,
    ServerError,
    StatusError,
    TimedOutError,
    UploadError,
)
from tests.server.process import free_port, noise, until, wav
from tests.sonant.client.scripted import Answer, refusal, scripted

ROOT = Path(__file__).parents[3]
SPEECH = ROOT / "demo/audio/switch-lamp-garage.flac"
ITEM = {"index": 0, "text": "hello", "confidence": 0.5, "duration": 1.5, "windows": 1, "from_the_future": [1]}
FOUND = Answer(content={"data": [ITEM]})


def test_a_path_bytes_a_file_and_an_array_are_transcribed_alike(demo_server: str) -> None:
    import soundfile

    with Client(demo_server) as sonant, SPEECH.open("rb") as file:
        found = sonant.transcribe(SPEECH)
        assert found.text == (SPEECH.with_suffix(".txt")).read_text().strip()
        assert found.duration == pytest.approx(soundfile.info(str(SPEECH)).duration, abs=0.01)
        assert sonant.transcribe(str(SPEECH)) == sonant.transcribe(file) == found
        assert sonant.transcribe(SPEECH.read_bytes()) == found
        samples, rate = soundfile.read(SPEECH, dtype="int16")
        assert sonant.transcribe(samples, sample_rate=rate).text == found.text


def test_encodings_are_arrays(demo_server: str) -> None:
    samples = noise(1.5)
    with Client(demo_server) as sonant:
        frames = sonant.encode(samples, sample_rate=16_000, model="hubert-ctc-english")
        assert frames.array.dtype == np.float32
        assert frames.array.ndim == 2
        assert (frames.layer, frames.frame_rate, frames.duration, frames.windows) == (None, 50.0, 1.5, 1)
        layers = sonant.encode(samples, sample_rate=16_000, model="hubert-ctc-english", layer=[2, 0], pooling="mean")
        assert [one.layer for one in layers] == [2, 0]
        one = sonant.encode(samples, sample_rate=16_000, model="hubert-ctc-english", layer=2)
        np.testing.assert_allclose(one.array.mean(axis=0), layers[0].array, atol=1e-5)
        unit = sonant.encode(wav(samples), model="hubert-ctc-english", pooling="mean", normalize=True)
        assert unit.frame_rate is None
        assert np.linalg.norm(unit.array) == pytest.approx(1, abs=1e-5)


def test_labels_and_models(demo_server: str) -> None:
    with Client(demo_server) as sonant:
        found = sonant.classify(ROOT / "demo/audio/words/yes.flac", top_k=2)
        assert [found.labels[0].label, len(found.labels)] == ["yes", 2]
        assert found.labels[0].score > found.labels[1].score
        models = {model.id: model for model in sonant.models()}
        assert models["hubert-ctc-english"].state == "ready"
        assert "transcribe" in models["hubert-ctc-english"].tasks


def test_what_was_asked_for_has_types(demo_server: str) -> None:
    with Client(demo_server) as sonant:
        found = sonant.transcribe(SPEECH, timestamps="char", response_format="verbose_json", beams=4, alternatives=2)
        assert found.words
        assert found.chars
        assert found.segments
        assert found.alternatives
        assert " ".join(word.word for word in found.words) == found.text
        assert "".join(char.char for char in found.chars).strip() == found.text
        assert " ".join(segment.text for segment in found.segments) == found.text
        assert found.alternatives[0].text == found.text
        assert (found.windows, found.words[0].start) == (1, found.chars[0].start)
        labels = sonant.classify(SPEECH, timeline=True, window_seconds=1)
        assert labels.timeline
        assert [labels.windows, labels.timeline[-1].end] == [len(labels.timeline), pytest.approx(labels.duration)]


def test_what_the_server_refuses_is_told_with_its_words(demo_server: str) -> None:
    with Client(demo_server) as sonant:
        with pytest.raises(RequestRefusedError) as refused:
            sonant.transcribe(b"no audio at all")
        assert (refused.value.status, refused.value.code) == (400, "audio_undecodable")
        assert refused.value.request_id
        assert refused.value.request_id in str(refused.value)
        with pytest.raises(RequestRefusedError) as unknown:
            sonant.transcribe(SPEECH, beams=-1)
        assert (unknown.value.status, unknown.value.param) == (422, "beams")
        with pytest.raises(NotFoundError) as missing:
            sonant.transcribe(SPEECH, model="nobody")
        assert (missing.value.code, missing.value.param) == ("model_not_found", "model")


def test_fields_of_a_newer_server_are_kept() -> None:
    with scripted(FOUND) as server, Client(server.url) as sonant:
        found = sonant.transcribe(b"audio")
        assert found.model_dump(exclude_unset=True) == ITEM


def test_options_stand_in_the_query_and_the_key_in_the_head() -> None:
    with scripted(FOUND) as server, Client(server.url + "/below/", key="secret") as sonant:
        sonant.transcribe(b"audio", model="a b", hotwords=["x&y", "z"], temperature=0.5)
        [asked] = server.asked
        assert (
            asked.path
            == "/below/v1/transcribe?model=a+b&hotwords=x%26y&hotwords=z&temperature=0.5&response_format=json"
        )
        assert asked.headers["Authorization"] == "Bearer secret"
        assert asked.headers["Content-Length"] == "5"
        assert asked.body == b"audio"
        assert "secret" not in repr(sonant.__dict__)


def test_it_comes_back_when_the_server_says() -> None:
    busy = refusal(429, "queue_full", "1")
    with scripted(busy, refusal(503, "model_not_ready", "0"), FOUND) as server, Client(server.url) as sonant:
        started = time.monotonic()
        assert sonant.transcribe(b"audio").text == "hello"
        assert time.monotonic() - started >= 1
        assert [asked.body for asked in server.asked] == [b"audio"] * 3


def test_a_date_says_too_when_to_come_back() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    with scripted(refusal(429, "queue_full", date)) as server, Client(server.url, retries=0) as sonant:
        with pytest.raises(RateLimitError) as full:
            sonant.models()
        assert full.value.retry_after == pytest.approx(100, abs=30)


def test_a_connection_that_breaks_is_made_again() -> None:
    with scripted(Answer(0), Answer(0), FOUND) as server, Client(server.url) as sonant:
        assert sonant.transcribe(io.BytesIO(b"audio")).text == "hello"
        assert len(server.asked) == 3


def test_a_fork_has_connections_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    with scripted(FOUND) as server, Client(server.url) as sonant:
        sonant.transcribe(b"audio")
        sonant.transcribe(b"audio")
        parent = sonant._http
        monkeypatch.setattr("os.getpid", lambda: -1)
        sonant.transcribe(b"audio")
        sonant.transcribe(b"audio")
        parent.close()
        first, again, forked, last = [asked.port for asked in server.asked]
        assert first == again != forked == last


def test_a_call_waits_as_long_as_the_server_is_given() -> None:
    with scripted(Answer(200, {"data": [ITEM]}, seconds=1.0)) as server, Client(server.url, timeout=0.2) as sonant:
        assert sonant.transcribe(b"audio", timeout=30).text == "hello"


def test_what_can_be_sent_only_once_is_not_sent_again() -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    with scripted(refusal(429, "queue_full", "0"), FOUND) as server, Client(server.url) as sonant:
        with pytest.raises(RateLimitError):
            sonant.transcribe(Pipe(b"audio"))
        assert len(server.asked) == 1
        assert sonant.transcribe(Pipe(b"audio")).text == "hello"
        assert server.asked[1].body == b"audio"
        assert server.asked[1].headers["Transfer-Encoding"] == "chunked"


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (refusal(400, "audio_empty"), RequestRefusedError),
        (refusal(401, "api_key_missing"), AuthenticationError),
        (refusal(403, "access_denied"), AuthenticationError),
        (refusal(404, "model_not_found"), NotFoundError),
        (refusal(500, "internal_error", "1"), ServerError),
        (refusal(503, "model_not_ready"), ServerError),
        (Answer(302, b"", {"Location": "http://elsewhere"}), AnswerError),
        (Answer(200, b"<html>"), AnswerError),
        (Answer(200, {"data": "x"}), AnswerError),
        (Answer(200, {"data": [{"text": 3}]}), AnswerError),
        (Answer(200, {"data": []}), AnswerError),
        (Answer(200, b"[" * 100_000), AnswerError),
        (Answer(400, b'{"error":' * 20_000), RequestRefusedError),
        (Answer(400, {"error": {"message": 5, "code": [1], "param": {}}}), RequestRefusedError),
        (Answer(400, {"error": ["message"]}), RequestRefusedError),
    ],
)
def test_what_is_not_temporary_is_asked_once(answer: Answer, kind: type[Exception]) -> None:
    with scripted(answer) as server, Client(server.url) as sonant:
        with pytest.raises(kind) as caught:
            sonant.transcribe(b"audio")
        assert str(caught.value)
        assert len(server.asked) == 1


ARRAY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
NOTES = {"0.duration": "1.0"}


def safetensors(header: Any, data: bytes = bytes(8)) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 9,
        safetensors(b"[" * 50_000),
        safetensors({"__metadata__": {}}),
        safetensors({"0": ARRAY}),
        safetensors({"__metadata__": NOTES, "x": ARRAY}),
        safetensors({"__metadata__": NOTES, "0": ARRAY | {"data_offsets": [0, 80]}}),
        safetensors({"__metadata__": NOTES, "0": ARRAY | {"data_offsets": [8, 0], "shape": [-1]}}),
        safetensors({"__metadata__": NOTES, "0": ARRAY | {"shape": [-1]}}),
        safetensors({"__metadata__": NOTES, "0": ARRAY | {"shape": 2}}),
    ],
)
def test_what_is_no_encoding_is_said(content: bytes) -> None:
    with scripted(Answer(200, safetensors({"__metadata__": NOTES, "0": ARRAY}))) as server, Client(server.url) as good:
        assert good.encode(b"audio").array.tolist() == [0, 0]
    with scripted(Answer(200, content)) as server, Client(server.url) as sonant, pytest.raises(AnswerError):
        sonant.encode(b"audio")


def test_an_error_of_a_proxy_has_its_words() -> None:
    with scripted(Answer(502, b"bad gateway")) as server, Client(server.url) as sonant:
        with pytest.raises(ServerError, match="bad gateway") as failed:
            sonant.transcribe(b"audio")
        assert (failed.value.status, failed.value.code, failed.value.request_id) == (502, None, None)


def test_it_gives_up_in_time() -> None:
    with scripted(refusal(429, "queue_full", "1")) as server:
        with Client(server.url, retry_seconds=0.5) as sonant, pytest.raises(RateLimitError):
            sonant.models()
        assert len(server.asked) == 1
        with Client(server.url, retries=0) as sonant, pytest.raises(RateLimitError):
            sonant.models()
        assert len(server.asked) == 2


def test_nobody_there_and_nobody_who_answers() -> None:
    with Client(f"http://127.0.0.1:{free_port()}", retry_seconds=0.1) as sonant, pytest.raises(ConnectionFailedError):
        sonant.models()
    with scripted(Answer(seconds=1.0)) as server:
        with Client(server.url, timeout=0.1) as sonant, pytest.raises(TimedOutError):
            sonant.transcribe(b"audio")
        until(lambda: server.asked)
    assert len(server.asked) == 1  # the server may still work on it


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://host", "http://", ""])
def test_an_address_that_is_none_is_said_at_once(url: str) -> None:
    with pytest.raises(ValueError, match="not an address"):
        Client(url)


def test_errors_are_also_those_of_python() -> None:
    assert issubclass(UploadError, ValueError)
    assert issubclass(ConnectionFailedError, ConnectionError)
    assert issubclass(TimedOutError, TimeoutError)
    assert all(issubclass(kind, StatusError) for kind in (AuthenticationError, NotFoundError, RateLimitError))


def test_both_clients_have_the_same_methods() -> None:
    def methods(kind: type) -> dict[str, Any]:
        found = {name: one for name, one in vars(kind).items() if inspect.isfunction(one) and name[0] != "_"}
        return {name: inspect.signature(one) for name, one in found.items()}

    assert methods(Client) == methods(AsyncClient)
    assert inspect.signature(Client.__init__) == inspect.signature(AsyncClient.__init__)


def test_the_client_needs_neither_the_server_nor_a_runtime() -> None:
    heavy = ["fastapi", "uvicorn", "onnxruntime", "soundfile", "server", "engines", "export", "torch"]
    code = f"import sys, sonant.client; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
    assert set(client.__all__) <= set(dir(client))


def test_an_upload_is_not_read_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "long"
    with path.open("wb") as file:
        file.truncate(2**26)
    sizes: list[int] = []

    class Transport(httpx.BaseTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            assert isinstance(request.stream, httpx.SyncByteStream)
            sizes.extend(map(len, request.stream))
            return httpx.Response(200, json={"data": [ITEM]})

    with Client("http://there") as sonant:
        sonant._http = httpx.Client(base_url="http://there", transport=Transport())
        sonant.transcribe(path)
    assert sum(sizes) == 2**26
    assert max(sizes) <= 2**18
