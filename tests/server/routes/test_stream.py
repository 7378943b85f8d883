import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
from numpy.typing import NDArray
from websockets.exceptions import InvalidStatus

from tests.server.process import Server, serving, wav
from tests.server.streams import (
    BINARY,
    END,
    PATIENCE_SECONDS,
    TEXT,
    Heard,
    frame,
    frames_of,
    hear,
    opened,
    pcm16,
    pieces,
    say,
    start,
    upgraded,
)

DEMO = Path(__file__).parents[3] / "demo"
CTC, WRITER = "hubert-ctc-english", "hubert-translate-english-german"
IDLE_SECONDS, LONGEST_SECONDS = 4, 60


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    models = tmp_path_factory.mktemp("models")
    for name in (CTC, WRITER):
        (models / name).symlink_to(DEMO / "engines" / name)
    with serving(
        models, defaults={"transcribe": CTC}, stream_idle_seconds=IDLE_SECONDS, stream_seconds=LONGEST_SECONDS
    ) as running:
        yield running


@pytest.fixture(scope="module")
def speech() -> NDArray[np.float32]:
    """22 s: four windows."""
    files = sorted((DEMO / "audio").glob("*.flac"))[:8]
    return np.concatenate([soundfile.read(file, dtype="float32")[0] for file in files])


def answer(server: Server, audio: bytes, ready: dict[str, Any], **options: str) -> dict[str, Any]:
    """Return what /v1/transcribe says of a file, with the windows of a stream."""
    windows = {"window_seconds": str(ready["window_seconds"])}
    if ready["context_seconds"]:
        windows["context_seconds"] = str(ready["context_seconds"])
    parts = {"file": ("a.wav", audio)}
    response = server.client.post(
        "/v1/transcribe", files=parts, data={"model": ready["model"], **windows, **options}, timeout=60
    )
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def metric(server: Server, name: str) -> float:
    [line] = [line for line in server.client.get("/metrics").text.splitlines() if line.startswith(name + " ")]
    return float(line.split()[1])


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("rate", "most", "options"),
    [
        (16_000, 20_000, {"timestamps": "word"}),
        (8_000, 999, {}),
        (44_100, 1 << 19, {"window_seconds": 5, "context_seconds": 0.5}),
        (48_000, 4_000, {"encoding": "float32", "interim": 0}),
    ],
)
def test_final_texts_are_those_of_the_file(
    server: Server, speech: NDArray[np.float32], rate: int, most: int, options: dict[str, Any]
) -> None:
    clip = soxr.resample(speech, 16_000, rate)
    is_float = options.get("encoding") == "float32"
    samples = clip.astype("<f4") if is_float else pcm16(clip)
    heard = say(server, start(sample_rate=rate, **options), *pieces(samples.tobytes(), most), END)
    assert heard.code == 1000
    assert [heard.messages[0]["type"], heard.messages[-1]["type"]] == ["ready", "done"]
    assert heard.messages[0] | options == heard.messages[0]
    audio = wav(clip, rate) if is_float else wav(samples, rate, subtype="PCM_16")  # type: ignore[arg-type]
    timestamps = {"timestamps": options["timestamps"]} if "timestamps" in options else {}
    expected = answer(server, audio, heard.messages[0], **timestamps)
    assert heard.text == expected["text"] != ""
    finals = heard.all("final")
    assert len(finals) == expected["data"][0]["windows"] > 3
    assert [final["start"] for final in finals] == [0, *(final["end"] for final in finals[:-1])]
    assert heard.messages[-1]["usage"] == pytest.approx(expected["usage"])
    if timestamps:
        words = [word for final in finals for word in final["words"]]
        said = expected["data"][0]["words"]
        assert [(word["word"], word["start"], word["end"]) for word in words] == [
            (word["word"], word["start"], word["end"]) for word in said
        ]
        assert [word["confidence"] for word in words] == pytest.approx([word["confidence"] for word in said], rel=1e-3)


def test_what_a_model_writes(server: Server, speech: NDArray[np.float32]) -> None:
    samples = pcm16(speech)
    heard = say(server, start(model=WRITER), *pieces(samples.tobytes(), 9_999), END)
    assert heard.code == 1000
    expected = answer(server, wav(samples, subtype="PCM_16"), heard.messages[0])  # type: ignore[arg-type]
    assert heard.text == expected["text"] != ""
    assert len(heard.all("final")) > 1
    assert heard.messages[0]["interim"] == 0


def test_partial_texts_come_before_the_end(server: Server, speech: NDArray[np.float32]) -> None:
    with opened(server) as connection:
        connection.send(start())
        connection.send(pcm16(speech[: 3 * 16_000]).tobytes())
        ready, partial = (json.loads(connection.recv(PATIENCE_SECONDS)) for _ in range(2))
        assert (ready["type"], ready["interim"], partial["type"]) == ("ready", 1, "partial")
        assert partial["text"]
        assert partial["start"] == 0 < partial["end"] <= 3
        connection.send(END)
        heard = hear(connection)
    assert heard.text
    assert not heard.all("partial")


def test_streams_do_not_mix(server: Server, speech: NDArray[np.float32]) -> None:
    halves = np.split(pcm16(speech)[: 20 * 16_000], 2)
    with opened(server) as one, opened(server) as other:
        for connection in (one, other):
            connection.send(start())
        for pair in zip(*(pieces(half.tobytes(), 9_999) for half in halves), strict=True):
            for connection, piece in zip((one, other), pair, strict=True):
                connection.send(piece)
        for connection, half in zip((one, other), halves, strict=True):
            connection.send(END)
            heard = hear(connection)
            expected = answer(server, wav(half, subtype="PCM_16"), heard.messages[0])  # type: ignore[arg-type]
            assert heard.text == expected["text"] != ""


def test_messages_of_one_byte(server: Server, speech: NDArray[np.float32]) -> None:
    samples = pcm16(speech[:24_000])
    with upgraded(server) as connection:
        messages = [frame(TEXT, start(interim=0).encode()), *frames_of(samples.tobytes()), frame(TEXT, END.encode())]
        connection.sendall(b"".join(messages))
        received = b""
        while b'"done"' not in received:
            part = connection.recv(1 << 16)
            assert part, received
            received += part
    expected = say(server, start(interim=0), samples.tobytes(), END)
    assert b'"text":"' + expected.text.encode() in received


@pytest.mark.parametrize(
    ("messages", "error"),
    [
        ([b"audio"], (1003, "message_type_not_supported", None)),
        (["hello"], (1007, "message_invalid", None)),
        (["[" * 4000], (1007, "message_invalid", None)),
        (["x" * 5000], (1007, "message_invalid", None)),
        (["[1]"], (1007, "message_invalid", "type")),
        ([END], (1007, "message_invalid", "type")),
        ([start(beams=4)], (1007, "field_unknown", "beams")),
        ([start(sample_rate=1)], (1007, "option_invalid", "sample_rate")),
        ([start(encoding="mp3")], (1007, "option_invalid", "encoding")),
        ([start(window_seconds=500)], (1007, "option_invalid", "window_seconds")),
        ([start(window_seconds=0.1)], (1007, "option_invalid", "window_seconds")),
        ([start(context_seconds=9)], (1007, "option_invalid", "context_seconds")),
        ([start(language="de")], (1007, "option_not_supported", "language")),
        ([start(interim=1, model=WRITER)], (1007, "option_not_supported", "interim")),
        ([start(timestamps="word", model=WRITER)], (1007, "option_not_supported", "timestamps")),
        ([start(context_seconds=1, model=WRITER)], (1007, "option_invalid", "context_seconds")),
        ([start(model="x")], (1008, "model_not_found", "model")),
        ([start(), '{"type":"start"}'], (1007, "message_invalid", "type")),
        ([start(), END], (1007, "audio_empty", None)),
        ([start(), bytes(64), END], (1007, "audio_too_short", None)),
        ([start(), bytes(6401), END], (1007, "audio_truncated", None)),
        ([start(encoding="float32"), b"\0\0\xc0\x7f" * 999], (1007, "audio_not_finite", None)),
        ([start(), bytes(320_000), END, b"more"], (1007, "message_invalid", None)),
        ([start(), *[bytes(2**20)] * 2], (1009, "stream_too_long", None)),
    ],
)
def test_what_is_refused(server: Server, messages: list[str | bytes], error: tuple[int, str, str | None]) -> None:
    heard = say(server, *messages)
    assert heard.error == error
    assert len(heard.all("ready")) == (messages[0] in (start(), start(encoding="float32")))


def test_clients_that_send_no_audio(server: Server) -> None:
    with opened(server) as silent, opened(server) as ready, opened(server) as empty:
        ready.send(start())
        empty.send(start())
        for _ in range(2):
            empty.send(b"")
        for connection in (silent, ready, empty):
            assert hear(connection).error == (4408, "stream_idle", None)


def test_clients_that_leave(server: Server, speech: NDArray[np.float32]) -> None:
    data = pcm16(speech).tobytes()
    stages: list[list[str | bytes]] = [[], [start()], [start(), data[:500_000]], [start(), data[:500_000], END]]
    for messages in stages:
        with opened(server) as polite:
            for message in messages:
                polite.send(message)
        with upgraded(server) as rude:
            for message in messages:
                kind, sent = (TEXT, message.encode()) if isinstance(message, str) else (BINARY, message[:60_000])
                rude.sendall(frame(kind, sent))
    wait_until(lambda: metric(server, "sonant_streams") == 0)
    wait_until(lambda: metric(server, "sonant_requests_in_progress") == 1)
    assert server.client.get("/health/ready").status_code == 200


def test_a_stream_has_its_line(server: Server) -> None:
    heard = say(server, start(), bytes(64_000), END, additional_headers={"X-Request-Id": "a-stream"})
    assert heard.code == 1000
    wait_until(lambda: "a-stream" in server.log)
    [line] = [json.loads(line) for line in server.log.splitlines() if "a-stream" in line]
    expected = {"path": "/v1/stream", "status": 1000, "model": CTC, "received_bytes": 64_000, "audio_seconds": 2.0}
    assert line | expected == line
    metrics = server.client.get("/metrics").text
    assert f'sonant_requests_total{{model="{CTC}",status="1000",task="stream"}}' in metrics
    assert f'sonant_stream_text_duration_seconds_count{{model="{CTC}"}}' in metrics


def test_elsewhere_there_is_no_stream(server: Server) -> None:
    with pytest.raises(InvalidStatus) as found:
        opened(server, "/v1/encode")
    assert found.value.response.status_code == 404
    assert b'"not_found"' in (found.value.response.body or b"")


def test_a_model_and_a_server_that_end(tmp_path: Path) -> None:
    """A stream has the time of a shutdown to end; it is told to connect again after that."""
    (tmp_path / CTC).symlink_to(DEMO / "engines" / CTC)
    with serving(tmp_path, shutdown_seconds=2) as server:
        with opened(server) as connection:
            connection.send(start())
            unloading = threading.Thread(target=server.client.post, args=[f"/v1/models/{CTC}/unload"])
            unloading.start()
            assert hear(connection).error == (1012, "model_replaced", "model")
            unloading.join()
        assert server.client.post(f"/v1/models/{CTC}/load").status_code == 200
        assert finish_while_it_ends(server).code == 1000
        assert server.process.wait(PATIENCE_SECONDS) == 0


def finish_while_it_ends(server: Server) -> Heard:
    """Begin two streams, end the server, and end one of them."""
    with opened(server) as finished, opened(server) as left:
        for connection in (finished, left):
            connection.send(start())
            assert json.loads(connection.recv(PATIENCE_SECONDS))["type"] == "ready"
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: server.client.get("/health/ready").status_code == 503)
        with pytest.raises(InvalidStatus) as found:
            opened(server)
        assert found.value.response.status_code == 503
        finished.send(bytes(64_000))
        finished.send(END)
        heard = hear(finished)
        assert hear(left).error == (1012, "shutting_down", None)
    return heard
