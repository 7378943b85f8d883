"""Clips that are longer than the engine takes, against the real process: whole, in time, and in bounded memory."""

import io
import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load

from engines.engine import Engine
from engines.runtimes import RuntimeOptions
from engines.verify import error
from server.schemas.options import WindowOptions
from server.windows import Geometry, Window, spans
from tests.server.faulty import PROGRAM, poisoned
from tests.server.process import Server, noise, serving, until, wav

ROOT = Path(__file__).parents[2]
NAME = "hubert-intent-english"
RATE = 16_000
NPY, SAFETENSORS = "application/x-npy", "application/vnd.safetensors"
MINUTES = np.tile(noise(60), 10)
CLIP = noise(70, seed=1)
ANSWER_BYTES = 12_000_000  # less than the frames of ten minutes, 17 MB
WAIT_SECONDS = 120  # at most, on a machine that has much else to do


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("models")
    (folder / NAME).symlink_to(ROOT / "demo" / "engines" / NAME)
    settings: dict[str, Any] = {"answer_bytes": ANSWER_BYTES, "send_timeout": WAIT_SECONDS}
    with serving(folder, program=PROGRAM, timeout=WAIT_SECONDS, **settings) as running:
        running.client.timeout = httpx.Timeout(WAIT_SECONDS)
        yield running


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(ROOT / "demo" / "engines" / NAME, options=RuntimeOptions("cpu", 1))


def stitched(engine: Engine, clip: NDArray[np.float32], **options: float) -> NDArray[np.float32]:
    """What the windows of a clip keep, one after the other."""
    geometry = Geometry.of(engine.manifest, ["embeddings"], WindowOptions.model_validate(options))
    found = []
    for span in spans(len(clip), geometry):
        [row] = engine.run([clip[span.start : span.end]], ["embeddings"])
        found.append(Window(row, span).kept("embeddings", 320))
    return np.concatenate(found)


def encode(server: Server, clip: NDArray[np.float32], accept: str = NPY, **options: Any) -> httpx.Response:
    headers = {"Accept": accept, "Content-Type": "audio/wav"}
    return server.client.post("/v1/encode", params=options, content=wav(clip), headers=headers)


def engine_seconds(server: Server) -> float:
    """The audio that the engine has run so far."""
    found = re.search(r"^sonant_engine_audio_seconds_total\S* (\S+)", server.client.get("/metrics").text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_frames_of_windows_are_those_of_the_engine(server: Server, engine: Engine) -> None:
    expected = stitched(engine, CLIP)
    response = encode(server, CLIP)
    assert (response.headers["X-Windows"], response.headers["X-Frame-Rate"]) == ("3", "50")
    assert error(np.load(io.BytesIO(response.content)), expected) <= 1e-5
    [tensor] = load(encode(server, CLIP, SAFETENSORS).content).values()
    np.testing.assert_array_equal(tensor, np.load(io.BytesIO(response.content)))
    [item] = encode(server, CLIP, "application/json", times="true", dtype="float16").json()["data"]
    np.testing.assert_array_equal(np.array(item["embedding"], np.float16), tensor.astype(np.float16))
    assert item["shape"] == list(expected.shape)
    assert len(item["times"]) == len(expected)
    assert item["windows"] == 3


def test_a_window_that_was_asked_for(server: Server, engine: Engine) -> None:
    options: dict[str, Any] = {"window_seconds": 12.0, "context_seconds": 2.0}
    clip = CLIP[: 50 * RATE]  # the engine would take it at once
    response = encode(server, clip, **options)
    assert response.headers["X-Windows"] == "6"
    expected = stitched(engine, clip, **options)
    assert error(np.load(io.BytesIO(response.content)), expected) <= 1e-5


def test_several_clips_and_layers(server: Server, engine: Engine) -> None:
    parts = [("file", ("a.wav", wav(clip))) for clip in (CLIP[:RATE], CLIP, CLIP[: 2 * RATE])]
    response = server.client.post("/v1/encode", files=parts, headers={"Accept": SAFETENSORS})
    assert response.headers["X-Windows"] == "1,3,1"
    tensors = load(response.content)
    assert error(tensors["1"], stitched(engine, CLIP)) <= 1e-5
    assert error(tensors["2"], stitched(engine, CLIP[: 2 * RATE])) <= 1e-5
    response = server.client.post("/v1/encode", files=parts, data={"layer": [2, 0]}, headers={"Accept": SAFETENSORS})
    assert {name: len(array) for name, array in load(response.content).items() if name[0] == "1"} == {
        "1.layer2": len(tensors["1"]),
        "1.layer0": len(tensors["1"]),
    }


@pytest.mark.parametrize("pooling", ["mean", "max", "first"])
def test_pooling_is_over_all_frames_of_the_clip(server: Server, engine: Engine, pooling: str) -> None:
    frames = stitched(engine, CLIP)
    expected = {"mean": frames.mean(0, np.float64), "max": frames.max(0), "first": frames[0]}[pooling]
    array = np.load(io.BytesIO(encode(server, CLIP, pooling=pooling).content))
    assert error(array, expected) <= 1e-5


def test_ten_minutes_wait_for_who_reads_them(server: Server, engine: Engine) -> None:
    """What is not read is not computed: neither memory nor the engine is taken by a client that does not read."""
    before = engine_seconds(server)
    headers = {"Accept": "application/json", "Content-Type": "audio/wav"}
    # Of an answer of 47 MB, the system would take 36 by itself.
    little = httpx.HTTPTransport(socket_options=[(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)])
    with (
        httpx.Client(base_url=server.client.base_url, transport=little, timeout=60) as client,
        client.stream("POST", "/v1/encode", content=wav(MINUTES), headers=headers) as response,
    ):
        pieces = response.iter_raw()
        body = next(pieces)
        done, now = -1.0, engine_seconds(server)
        while done < now:
            time.sleep(1)
            done, now = now, engine_seconds(server)
        assert now - before < 300
        [other] = encode(server, CLIP[:RATE], "application/json", pooling="mean").json()["data"]
        assert other["windows"] == 1
        body += b"".join(pieces)
    frames = np.array(json.loads(body)["data"][0]["embedding"], np.float32)
    assert len(frames) == (len(MINUTES) - engine.manifest.min_samples) // 320 + 1
    windows = spans(len(MINUTES), Geometry.of(engine.manifest, ["embeddings"], WindowOptions()))
    for span in (windows[0], windows[9], windows[-1]):
        [row] = engine.run([MINUTES[span.start : span.end]], ["embeddings"])
        kept = Window(row, span).kept("embeddings", 320)
        start = span.keep_start // 320
        assert error(frames[start : start + len(kept)], kept) <= 1e-5


@pytest.mark.parametrize("accept", [NPY, "application/json"])
def test_a_stream_that_breaks_is_not_taken_for_complete(server: Server, engine: Engine, accept: str) -> None:
    clip = CLIP.copy()
    second = spans(len(clip), Geometry.of(engine.manifest, ["embeddings"], WindowOptions()))[1]
    clip[second.start :] = poisoned(clip[second.start :], "raise")
    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
        encode(server, clip, accept)
    until(lambda: "breaks off with engine_failed" in server.log)
    assert encode(server, CLIP[:RATE]).status_code == 200


def test_a_window_that_fails_before_anything_is_sent_is_an_error(server: Server, engine: Engine) -> None:
    clip = CLIP.copy()
    last = spans(len(clip), Geometry.of(engine.manifest, ["embeddings"], WindowOptions()))[-1]
    clip[last.start :] = poisoned(clip[last.start :], "raise")
    assert server.error(encode(server, clip)) == (500, "engine_failed", None)
    assert server.error(encode(server, clip, pooling="mean")) == (500, "engine_failed", None)


def test_the_deadline_holds_while_an_answer_is_sent(server: Server, engine: Engine) -> None:
    clip = MINUTES[: 400 * RATE].copy()
    for span in spans(len(clip), Geometry.of(engine.manifest, ["embeddings"], WindowOptions())):
        clip[span.start : span.end] = poisoned(clip[span.start : span.end], "slow")
    before = engine_seconds(server)
    with suppress(httpx.RemoteProtocolError):  # if the answer has begun
        response = encode(server, clip, timeout=4)
        assert server.error(response) in [(504, "deadline_exceeded", "timeout"), (429, "wait_too_long", None)]
    assert engine_seconds(server) - before < 300
    assert encode(server, CLIP[:RATE]).status_code == 200


def test_a_client_that_leaves_gives_everything_back(server: Server) -> None:
    headers = {"Accept": NPY, "Content-Type": "audio/wav"}
    with server.client.stream("POST", "/v1/encode", content=wav(MINUTES), headers=headers) as response:
        next(response.iter_raw())
    until(lambda: "sonant_requests_in_progress 1.0" in server.client.get("/metrics").text)  # the one that asks
    before = engine_seconds(server)
    assert encode(server, CLIP[:RATE]).status_code == 200
    assert engine_seconds(server) - before < 100  # windows that ran already


def test_an_answer_that_does_not_fit_is_refused_before_anything_runs(server: Server) -> None:
    before = engine_seconds(server)
    response = server.client.post("/v1/encode", files=[("file", wav(CLIP[: 10 * RATE]))] * 32)
    assert server.error(response) == (413, "request_too_large", None)
    assert engine_seconds(server) == before


def test_what_a_window_cannot_be(server: Server) -> None:
    for name, value in (("window_seconds", 61), ("window_seconds", 0.1), ("context_seconds", 8), ("windows", "some")):
        options: dict[str, Any] = {name: value}
        response = encode(server, CLIP[:RATE], **options)
        assert server.error(response) == (422, "option_invalid", name)
    response = encode(server, CLIP[:RATE], pooling="model", context_seconds=1)
    assert server.error(response) == (422, "option_invalid", "context_seconds")
    response = encode(server, CLIP, windows="none")
    assert server.error(response) == (413, "audio_too_long", None)


def test_a_time_line_of_labels(server: Server) -> None:
    headers = {"Content-Type": "audio/wav"}
    options: dict[str, Any] = {"timeline": "true", "window_seconds": 20, "top_k": 3}
    response = server.client.post("/v1/classify", params=options, content=wav(CLIP), headers=headers)
    [item] = json.loads(response.content)["data"]
    assert [(part["start"], part["end"]) for part in item["timeline"]] == [(0, 20), (20, 40), (40, 60), (60, 70)]
    assert all(len(part["labels"]) == 3 for part in item["timeline"])
    scores = [sum(label["score"] for label in part["labels"]) for part in item["timeline"]]
    assert all(score <= 1 for score in scores)
    assert item["windows"] == 4
