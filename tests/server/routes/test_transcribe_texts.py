"""Texts that are written token by token, over HTTP."""

import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.server.process import Server, noise, serving, until, wav
from tests.server.routes.asking import transcribe
from tests.server.translation import LANGUAGES, Translator, write_translator

NAME = "tiny-translator"
CLIPS = [noise(seconds, seed=seed) for seed, seconds in enumerate([0.6, 3.0, 1.1, 2.2, 0.1, 1.7])]
LONG = 500  # tokens


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_translator(tmp_path_factory.mktemp("checkpoints") / NAME)


@pytest.fixture(scope="module")
def translator(checkpoint: Path) -> Translator:
    return Translator(checkpoint)


@pytest.fixture(scope="module")
def models(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from export.exporter import export

    folder = tmp_path_factory.mktemp("models")
    export(str(checkpoint), folder / NAME, max_seconds=20)
    return folder


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Server]:
    with serving(models, max_tokens=LONG) as running:
        yield running


@pytest.mark.parametrize("beams", [1, 3])
def test_the_texts_are_those_of_transformers(server: Server, translator: Translator, beams: int) -> None:
    expected = [translator(clip, num_beams=beams)[0] for clip in CLIPS]
    body = transcribe(server, *CLIPS, beams=beams)
    assert [item["text"] for item in body["data"]] == expected
    assert body["text"] == expected[0]
    assert len(set(expected)) >= 4
    assert body["data"][0]["duration"] == 0.6
    assert all(0 < item["confidence"] <= 1 if item["text"] else item["confidence"] is None for item in body["data"])


def test_requests_that_share_batches_get_their_own_texts(server: Server, translator: Translator) -> None:
    asked = [(clip, beams, tokens) for clip in CLIPS for beams in (1, 3) for tokens in (5, 17)]
    with ThreadPoolExecutor(len(asked)) as pool:
        bodies = list(pool.map(lambda one: transcribe(server, one[0], beams=one[1], max_tokens=one[2]), asked))
    for (clip, beams, tokens), body in zip(asked, bodies, strict=True):
        assert body["text"] == translator(clip, num_beams=beams, max_length=1 + tokens)[0]
        assert body["data"][0]["tokens"] <= tokens


def test_alternatives(server: Server, translator: Translator) -> None:
    [item] = transcribe(server, CLIPS[1], beams=4, alternatives=3)["data"]
    expected = translator(CLIPS[1], num_beams=4, num_return_sequences=3)
    assert [one["text"] for one in item["alternatives"]] == expected
    scores = [one["score"] for one in item["alternatives"]]
    assert scores == sorted(scores, reverse=True)
    assert item["text"] == expected[0]


def test_a_language_is_the_first_token(server: Server, translator: Translator) -> None:
    for language, token in LANGUAGES.items():
        [item] = transcribe(server, CLIPS[0], language=language)["data"]
        assert item["text"] == translator(CLIPS[0], forced_bos_token_id=token)[0]
        assert item["language"] == language


def test_what_a_request_gets_by_default_is_listed(server: Server, translator: Translator) -> None:
    item = server.client.get(f"/v1/models/{NAME}").json()
    assert item["generation"]["beams"] == 1
    assert 1 <= item["generation"]["max_tokens"] <= LONG
    assert set(item["parity"]) >= {"fp32.start", "fp32.step"}


def test_plain_text(server: Server, translator: Translator) -> None:
    parts = [("file", ("a.wav", wav(clip))) for clip in CLIPS[:2]]
    response = server.client.post("/v1/transcribe", files=parts, data={"response_format": "text"})
    assert response.text == "".join(f"{translator(clip)[0]}\n" for clip in CLIPS[:2])


def test_a_seed_makes_what_is_drawn_repeatable(server: Server) -> None:
    def draw(seed: int) -> str:
        text: str = transcribe(server, CLIPS[2], temperature=2, top_k=0, seed=seed)["text"]
        return text

    assert draw(1) == draw(1)
    assert len({draw(seed) for seed in range(4)}) > 1
    both = transcribe(server, CLIPS[2], CLIPS[1], CLIPS[2], temperature=2, top_k=0, seed=1)["data"]
    assert both[0]["text"] == both[2]["text"] == draw(1)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"language": "klingon"}, "option_invalid"),
        ({"beams": 1000}, "option_invalid"),
        ({"beams": 0}, "option_invalid"),
        ({"alternatives": 2}, "option_invalid"),
        ({"top_p": 0.5}, "option_invalid"),
        ({"temperature": "nan"}, "option_invalid"),
        ({"temperature": -1}, "option_invalid"),
        ({"seed": -1, "temperature": 1}, "option_invalid"),
        ({"max_tokens": LONG + 1}, "option_invalid"),
        ({"hotwords": "sonant"}, "option_not_supported"),
        ({"timestamps": "word"}, "option_not_supported"),
    ],
)
def test_what_cannot_be_honoured(server: Server, speech: bytes, options: dict[str, Any], code: str) -> None:
    response = server.client.post("/v1/transcribe", files={"file": speech}, data=options)
    assert server.error(response) == (422, code, next(iter(options)))


def test_the_languages_are_listed(server: Server, speech: bytes) -> None:
    response = server.client.post("/v1/transcribe", files={"file": speech}, data={"language": "klingon"})
    assert "de_DE, fr_XX" in response.json()["error"]["message"]


def test_a_short_request_is_answered_long_before_a_long_text_ends(server: Server, translator: Translator) -> None:
    clip = CLIPS[0]
    assert len(translator.tokens(clip, max_length=LONG + 1)[0]) == LONG + 1  # it does not end by itself
    most = 0
    with ThreadPoolExecutor(1) as pool:
        for _ in range(10):  # until this process is not held up
            long = pool.submit(transcribe, server, clip, max_tokens=LONG, beams=1)
            until(lambda: long.done() or server.metric("sonant_requests_in_progress") == 2)  # noqa: B023
            served = 0
            while not long.done():
                assert server.client.post("/v1/encode?pooling=mean", content=wav(CLIPS[4])).status_code == 200
                assert transcribe(server, CLIPS[4], max_tokens=2)["data"][0]["tokens"] == 2
                served += 1
            assert long.result()["data"][0]["tokens"] == LONG
            most = max(most, served)
            if most >= 3:
                break
    assert most >= 3


def test_a_client_that_leaves_ends_its_text(server: Server) -> None:
    def leave() -> None:
        data = wav(CLIPS[1])
        with server.connect() as connection:
            head = f"POST /v1/transcribe?max_tokens={LONG}&beams=16 HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}"
            connection.sendall(f"{head}\r\n\r\n".encode() + data)
            time.sleep(0.2)

    for _ in range(6):
        leave()
    until(lambda: server.metric("sonant_requests_in_progress") == 1)  # the one that asks
    transcribe(server, CLIPS[1], max_tokens=3)
    busy = server.metric("sonant_engine_busy_seconds_total")
    time.sleep(0.2)
    assert server.metric("sonant_engine_busy_seconds_total") == busy


def test_sigterm_lets_a_text_that_was_begun_end(models: Path) -> None:
    with serving(models, max_tokens=LONG) as server, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(transcribe, server, CLIPS[0], max_tokens=LONG)
        until(lambda: answer.done() or server.metric("sonant_requests_in_progress") == 2)  # one asks for this
        server.process.send_signal(signal.SIGTERM)
        assert answer.result()["data"][0]["tokens"] == LONG
        assert server.process.wait(60) == 0
