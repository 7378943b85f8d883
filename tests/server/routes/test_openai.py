"""OpenAI's client, unmodified, against the real server with the demo's engines."""

from __future__ import annotations

import asyncio
import hashlib
import io
import itertools
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
import soundfile
from numpy.typing import NDArray
from openai import AsyncOpenAI, OpenAI
from openai.types.audio import TranscriptionTextDeltaEvent, TranscriptionTextDoneEvent, TranscriptionVerbose

from engines.manifest import LOGITS, Manifest
from server.schemas.openai import DeltaEvent, DoneEvent, SpeechAnswer, VerboseSpeechAnswer
from server.schemas.options import WindowOptions
from server.windows import Geometry, Span, spans
from tests.server import faulty
from tests.server.faulty import poisoned
from tests.server.formats.subtitles import read_srt, read_vtt
from tests.server.process import Server, noise, serving, until, wav

DEMO = Path(__file__).parents[3] / "demo"
ENGLISH, GERMAN, OTHER = "hubert-ctc-english", "hubert-translate-english-german", "hubert-intent-english"
ALIAS = "whisper-1"
FILE = DEMO / "audio" / "add-half-hour.flac"
RATE = 16_000
KEY = "a-key-of-the-tests"
LONGEST_SECONDS = 900
QUEUE_SECONDS = 1.0
FORMATS = {
    "json": "application/json",
    "verbose_json": "application/json",
    "text": "text/plain; charset=utf-8",
    "srt": "application/x-subrip",
    "vtt": "text/vtt; charset=utf-8",
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name in (ENGLISH, GERMAN, OTHER):
        (folder / name).symlink_to(DEMO / "engines" / name)
    return folder


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Server]:
    """A server with keys, whose engines fail on the clips that say so; few can wait."""
    keys = json.dumps({"tests": hashlib.sha256(KEY.encode()).hexdigest()})
    with serving(
        models,
        program=faulty.PROGRAM,
        defaults={"transcribe": ENGLISH},
        api_keys=keys,
        metrics_keys=keys,
        openai_models=json.dumps({ALIAS: ENGLISH}),
        max_clip_seconds=LONGEST_SECONDS,
        queue_seconds=QUEUE_SECONDS,
    ) as running:
        running.client.headers["Authorization"] = f"Bearer {KEY}"
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[OpenAI]:
    with connect(server) as connected:
        yield connected


@pytest.fixture(scope="module")
def long_clip() -> NDArray[np.float32]:
    """All sentences of the demo in English, three times: some windows."""
    files = sorted((DEMO / "audio").glob("*-*-*.flac"))
    clips = [np.asarray(soundfile.read(file, dtype="float32")[0]) for file in files]
    assert all(clip.ndim == 1 for clip in clips)
    return np.concatenate(clips * 3)


def connect(server: Server, key: str = KEY, max_retries: int = 0) -> OpenAI:
    return OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key=key, max_retries=max_retries, timeout=60)


def windows_of(clip: NDArray[np.float32]) -> list[Span]:
    """Return where the server cuts `clip`."""
    geometry = Geometry.of(Manifest.read(DEMO / "engines" / ENGLISH), [LOGITS], WindowOptions())
    return list(spans(len(clip), geometry))


def failing(clip: NDArray[np.float32], faults: dict[int, str]) -> bytes:
    """Return `clip` as a file whose windows make the engine fail as `faults` says."""
    clip = clip.copy()
    windows = windows_of(clip)
    for number, fault in faults.items():
        start = windows[number].start
        clip[start : start + 2] = poisoned(clip[start : start + 2], fault)
    return wav(clip)


def answer_of(server: Server, model: str, file: bytes | Path = FILE, **options: str) -> Any:
    """Return what /v1/transcribe says."""
    content = file if isinstance(file, bytes) else file.read_bytes()
    return server.client.post("/v1/transcribe", content=content, params={"model": model, **options}).json()


class TestTranscriptions:
    def test_json(self, server: Server, client: OpenAI) -> None:
        found = client.audio.transcriptions.create(file=FILE, model=ENGLISH)
        assert found.text == answer_of(server, ENGLISH)["text"] == FILE.with_suffix(".txt").read_text().strip()
        assert found.usage is not None
        assert found.usage.type == "duration"
        assert found.usage.seconds == pytest.approx(soundfile.info(FILE).duration)
        SpeechAnswer.model_validate(found.model_dump())

    def test_text(self, server: Server, client: OpenAI) -> None:
        found = client.audio.transcriptions.create(file=FILE, model=ENGLISH, response_format="text")
        assert found == f"{answer_of(server, ENGLISH)['text']}\n"

    def test_verbose(self, server: Server, client: OpenAI) -> None:
        found = client.audio.transcriptions.create(file=FILE, model=ENGLISH, response_format="verbose_json")
        VerboseSpeechAnswer.model_validate(found.model_dump(exclude_none=True))
        assert (found.words, found.language) == (None, "und")
        assert found.duration == pytest.approx(soundfile.info(FILE).duration)
        assert found.segments
        assert " ".join(segment.text for segment in found.segments) == found.text
        [item] = answer_of(server, ENGLISH, response_format="verbose_json")["data"]
        assert [(one.start, one.end) for one in found.segments] == [
            (one["start"], one["end"]) for one in item["segments"]
        ]

    @pytest.mark.parametrize("parts", [["word"], ["segment"], ["word", "segment"]])
    def test_granularities(self, server: Server, client: OpenAI, parts: list[Any]) -> None:
        found = client.audio.transcriptions.create(
            file=FILE, model=ENGLISH, response_format="verbose_json", timestamp_granularities=parts
        )
        assert (found.words is not None, found.segments is not None) == ("word" in parts, "segment" in parts)
        if found.words:
            assert " ".join(word.word for word in found.words) == found.text
            [item] = answer_of(server, ENGLISH, timestamps="word")["data"]
            assert [(word.start, word.end) for word in found.words] == [
                (word["start"], word["end"]) for word in item["words"]
            ]

    def test_subtitles(self, client: OpenAI) -> None:
        create = client.audio.transcriptions.create
        cues = read_srt(create(file=FILE, model=ENGLISH, response_format="srt"))
        assert " ".join(line for _, _, lines in cues for line in lines) == create(file=FILE, model=ENGLISH).text
        assert read_vtt(create(file=FILE, model=ENGLISH, response_format="vtt")) == cues

    @pytest.mark.parametrize("response_format", FORMATS)
    def test_media_types(self, client: OpenAI, response_format: Any) -> None:
        raw = client.audio.transcriptions.with_raw_response
        response = raw.create(file=FILE, model=ENGLISH, response_format=response_format)
        assert response.headers["Content-Type"] == FORMATS[response_format]
        assert response.headers["X-Windows"] == "1"
        assert response.request_id

    def test_what_their_clients_can_pass(self, client: OpenAI) -> None:
        file = ("speech.flac", FILE.read_bytes(), "audio/flac")
        found = client.audio.transcriptions.create(
            file=file, model=ENGLISH, temperature=0, chunking_strategy="auto", prompt="", keywords=["timer", "hour"]
        )
        assert "timer" in found.text

    def test_a_model_that_writes(self, server: Server, client: OpenAI) -> None:
        found = client.audio.transcriptions.create(file=FILE, model=GERMAN, response_format="verbose_json")
        assert found.text == answer_of(server, GERMAN)["text"]
        assert found.segments
        assert [segment.text for segment in found.segments] == [found.text]

    def test_a_name_that_stands_for_a_model(self, client: OpenAI) -> None:
        named = client.audio.transcriptions.create(file=FILE, model=ALIAS)
        assert named == client.audio.transcriptions.create(file=FILE, model=ENGLISH)
        assert named == client.audio.transcriptions.create(file=FILE, model="")  # the task's default

    @pytest.mark.parametrize("model", [ENGLISH, GERMAN])
    def test_long_audio(self, client: OpenAI, long_clip: NDArray[np.float32], model: str) -> None:
        raw = client.audio.transcriptions.with_raw_response
        response = raw.create(file=wav(long_clip), model=model, response_format="verbose_json")
        windows, found = int(response.headers["X-Windows"]), response.parse()
        assert isinstance(found, TranscriptionVerbose)
        assert found.segments
        assert windows > 1
        assert windows == (len(windows_of(long_clip)) if model == ENGLISH else len(found.segments))
        assert " ".join(segment.text for segment in found.segments) == found.text
        assert all(one.end <= following.start for one, following in itertools.pairwise(found.segments))
        assert found.segments[-1].end <= found.duration

    async def check_async(self, server: Server) -> None:
        base_url = f"http://127.0.0.1:{server.port}/v1"
        async with AsyncOpenAI(base_url=base_url, api_key=KEY, max_retries=0) as client:
            stream = await client.audio.transcriptions.create(file=FILE, model=ENGLISH, stream=True)
            events = [event async for event in stream]
            text = await client.audio.transcriptions.create(file=FILE, model=ENGLISH, response_format="text")
        assert isinstance(events[-1], TranscriptionTextDoneEvent)
        assert events[-1].text == text.strip()

    def test_async(self, server: Server) -> None:
        asyncio.run(self.check_async(server))


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # OpenAI's own models will not have it for ever
class TestTranslations:
    def test_json(self, server: Server, client: OpenAI) -> None:
        found = client.audio.translations.create(file=FILE, model=GERMAN)
        assert found.text == answer_of(server, GERMAN)["text"] == FILE.with_suffix(".de.txt").read_text().strip()

    def test_verbose(self, client: OpenAI) -> None:
        found = client.audio.translations.create(file=FILE, model=GERMAN, response_format="verbose_json")
        assert found.segments
        assert [segment.text for segment in found.segments] == [found.text]
        VerboseSpeechAnswer.model_validate(found.model_dump(exclude_none=True))

    def test_documents(self, client: OpenAI) -> None:
        create = client.audio.translations.create
        text = create(file=FILE, model=GERMAN).text
        assert create(file=FILE, model=GERMAN, response_format="text") == f"{text}\n"
        [cue] = read_srt(create(file=FILE, model=GERMAN, response_format="srt"))
        assert cue[0] == 0
        assert " ".join(cue[2]) == text
        assert read_vtt(create(file=FILE, model=GERMAN, response_format="vtt")) == [cue]

    def test_a_model_that_does_not(self, client: OpenAI) -> None:
        with pytest.raises(openai.BadRequestError, match="does not translate") as caught:
            client.audio.translations.create(file=FILE, model=ENGLISH)
        assert (caught.value.code, caught.value.param) == ("task_not_supported", "model")


class TestStreaming:
    def test_a_short_clip_comes_word_by_word(self, client: OpenAI) -> None:
        with client.audio.transcriptions.create(file=FILE, model=ENGLISH, stream=True) as stream:
            *deltas, done = list(stream)
        assert isinstance(done, TranscriptionTextDoneEvent)
        texts = [event.delta for event in deltas if isinstance(event, TranscriptionTextDeltaEvent)]
        assert [text.strip() for text in texts] == done.text.split()
        assert "".join(texts) == done.text == client.audio.transcriptions.create(file=FILE, model=ENGLISH).text

    @pytest.mark.parametrize("model", [ENGLISH, GERMAN])
    def test_a_long_clip(self, client: OpenAI, long_clip: NDArray[np.float32], model: str) -> None:
        check_stream(client, wav(long_clip), model=model)

    def test_beams_tell_at_the_end(self, client: OpenAI) -> None:
        check_stream(client, FILE, model=ENGLISH, keywords=["timer"])

    def test_on_the_wire(self, server: Server) -> None:
        response = server.client.post(
            "/v1/audio/transcriptions",
            files={"file": FILE.read_bytes()},
            data={"model": ENGLISH, "stream": "true"},
        )
        assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        *deltas, done, end = response.text.split("\n\n")
        assert end == ""
        for line in deltas:
            DeltaEvent.model_validate_json(line.removeprefix("data: "))
        DoneEvent.model_validate_json(done.removeprefix("data: "))

    def test_silence(self, client: OpenAI) -> None:
        silence = wav(np.zeros(RATE, np.float32))
        events = list(client.audio.transcriptions.create(file=silence, model=ENGLISH, stream=True))
        assert [event.type for event in events] == ["transcript.text.done"]

    def test_the_text_comes_while_the_rest_is_run(
        self, server: Server, client: OpenAI, long_clip: NDArray[np.float32]
    ) -> None:
        begun = threading.Event()

        def read() -> Any:
            file = failing(long_clip, {len(windows_of(long_clip)) - 1: "hold"})
            with client.audio.transcriptions.create(file=file, model=ENGLISH, stream=True) as stream:
                next(iter(stream))
                begun.set()
                *_, done = stream
                return done

        with server.held(read) as answer:
            assert begun.wait(60)
        assert answer.result().type == "transcript.text.done"

    def test_an_error_in_the_midst(self, client: OpenAI, long_clip: NDArray[np.float32]) -> None:
        file = failing(long_clip, {2: "raise"})
        stream = iter(client.audio.transcriptions.create(file=file, model=ENGLISH, stream=True))
        assert next(stream).type == "transcript.text.delta"
        with pytest.raises(openai.APIError) as caught:
            list(stream)
        assert caught.value.code == "engine_failed"
        assert not isinstance(caught.value, openai.APIStatusError)

    def test_an_error_at_the_beginning(self, client: OpenAI, long_clip: NDArray[np.float32]) -> None:
        file = failing(long_clip, {0: "raise"})
        with pytest.raises(openai.InternalServerError) as caught:
            client.audio.transcriptions.create(file=file, model=ENGLISH, stream=True)
        assert (caught.value.status_code, caught.value.code) == (500, "engine_failed")

    def test_the_deadline_ends_it(self, client: OpenAI, long_clip: NDArray[np.float32]) -> None:
        file = failing(long_clip, dict.fromkeys(range(1, len(windows_of(long_clip))), "slow"))
        with pytest.raises(openai.APIError) as caught:  # before the first event, or after
            list(client.audio.transcriptions.create(file=file, model=ENGLISH, stream=True, extra_body={"timeout": 1.5}))
        assert caught.value.code == "deadline_exceeded"

    def test_a_client_that_leaves_ends_it(self, server: Server, client: OpenAI, long_clip: NDArray[np.float32]) -> None:
        clip = np.tile(long_clip, 3)
        file = failing(clip, dict.fromkeys(range(1, len(windows_of(clip))), "slow"))
        before = server.metric("sonant_engine_audio_seconds_total")
        stream = client.audio.transcriptions.create(file=file, model=ENGLISH, stream=True)
        next(iter(stream))
        stream.close()
        until(lambda: server.metric("sonant_requests_in_progress") == 1)  # the one that asks
        assert client.audio.transcriptions.create(file=FILE, model=ENGLISH).text
        assert server.metric("sonant_queue_audio_seconds") == 0
        assert server.metric("sonant_engine_audio_seconds_total") - before < len(clip) / RATE / 2


def check_stream(client: OpenAI, file: bytes | Path, **options: Any) -> None:
    """Check that the text which is streamed is the one that is answered as a whole."""
    *deltas, done = list(client.audio.transcriptions.create(file=file, stream=True, **options))
    assert isinstance(done, TranscriptionTextDoneEvent)
    assert "".join(getattr(event, "delta", "") for event in deltas) == done.text
    assert done.text == client.audio.transcriptions.create(file=file, **options).text


class TestModels:
    def test_list(self, client: OpenAI) -> None:
        found = {model.id: model for model in client.models.list()}
        assert set(found) == {ENGLISH, GERMAN, OTHER}
        for name, model in found.items():
            assert (model.object, model.owned_by) == ("model", "sonant")
            assert abs(model.created - time.time()) < 3600
            assert client.models.retrieve(name) == model

    def test_one_that_is_not_there(self, client: OpenAI) -> None:
        with pytest.raises(openai.NotFoundError) as caught:
            client.models.retrieve("nobody")
        assert caught.value.code == "model_not_found"


class TestErrors:
    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ({"model": "nobody"}, (openai.NotFoundError, "model_not_found", "model")),
            ({"model": OTHER}, (openai.BadRequestError, "task_not_supported", "model")),
            ({"file": b"no audio at all, only words"}, (openai.BadRequestError, "audio_undecodable", "file[0]")),
            ({"file": b""}, (openai.BadRequestError, "audio_empty", "file[0]")),
            ({"prompt": "Sonant"}, (openai.UnprocessableEntityError, "option_not_supported", "prompt")),
            ({"language": "en"}, (openai.UnprocessableEntityError, "option_not_supported", "language")),
            ({"languages": ["en"]}, (openai.UnprocessableEntityError, "option_not_supported", "languages")),
            ({"include": ["logprobs"]}, (openai.UnprocessableEntityError, "option_not_supported", "include")),
            (
                {"known_speaker_names": ["a"], "known_speaker_references": ["data:audio/wav;base64,AAAA"]},
                (openai.UnprocessableEntityError, "option_not_supported", "known_speaker_names"),
            ),
            (
                {"chunking_strategy": {"type": "server_vad", "threshold": 0.5}},
                (openai.UnprocessableEntityError, "option_invalid", "chunking_strategy"),
            ),
            ({"temperature": 0.5}, (openai.UnprocessableEntityError, "option_not_supported", "temperature")),
            ({"temperature": -1}, (openai.UnprocessableEntityError, "option_invalid", "temperature")),
            (
                {"response_format": "diarized_json"},
                (openai.UnprocessableEntityError, "option_invalid", "response_format"),
            ),
            (
                {"timestamp_granularities": ["word"]},
                (openai.UnprocessableEntityError, "option_invalid", "timestamp_granularities"),
            ),
            (
                {"timestamp_granularities": ["letter"], "response_format": "verbose_json"},
                (openai.UnprocessableEntityError, "option_invalid", "timestamp_granularities"),
            ),
            (
                {"model": GERMAN, "timestamp_granularities": ["word"], "response_format": "verbose_json"},
                (openai.UnprocessableEntityError, "option_not_supported", "timestamp_granularities"),
            ),
            (
                {"model": GERMAN, "keywords": ["Uhr"]},
                (openai.UnprocessableEntityError, "option_not_supported", "keywords"),
            ),
            (
                {"keywords": ["ab" * count for count in range(60, 110)]},
                (openai.UnprocessableEntityError, "option_invalid", "keywords"),
            ),
            (
                {"stream": True, "response_format": "srt"},
                (openai.UnprocessableEntityError, "option_invalid", "stream"),
            ),
            ({"extra_body": {"nonsense": "1"}}, (openai.UnprocessableEntityError, "field_unknown", "nonsense")),
        ],
    )
    def test_what_is_refused(
        self, server: Server, client: OpenAI, options: dict[str, Any], expected: tuple[type[Exception], str, str]
    ) -> None:
        kind, code, param = expected
        with pytest.raises(openai.APIStatusError) as caught:
            client.audio.transcriptions.create(**{"file": FILE, "model": ENGLISH, **options})
        assert type(caught.value) is kind
        assert server.error(httpx.Response(caught.value.status_code, content=caught.value.response.content)) == (
            caught.value.status_code,
            code,
            param,
        )
        assert (caught.value.code, caught.value.param) == (code, param)

    def test_keys(self, server: Server) -> None:
        with connect(server, "another") as stranger, pytest.raises(openai.AuthenticationError) as caught:
            stranger.audio.transcriptions.create(file=FILE, model=ENGLISH)
        assert caught.value.code == "api_key_invalid"

    def test_too_long(self, client: OpenAI) -> None:
        file = io.BytesIO()
        soundfile.write(file, np.zeros((LONGEST_SECONDS + 1) * 1000, np.int16), 1000, format="FLAC")
        with pytest.raises(openai.APIStatusError) as caught:
            client.audio.transcriptions.create(file=("a.flac", file.getvalue()), model=ENGLISH)
        assert (caught.value.status_code, caught.value.code) == (413, "audio_too_long")

    def test_the_engine(self, client: OpenAI) -> None:
        with pytest.raises(openai.InternalServerError) as caught:
            client.audio.transcriptions.create(file=wav(poisoned(noise(1), "nan")), model=ENGLISH)
        assert caught.value.code == "engine_failed"

    def test_the_deadline(self, server: Server) -> None:
        """What was late once is not tried twice more."""
        slow = wav(poisoned(noise(1), "slow"))
        with connect(server, max_retries=2) as client, pytest.raises(openai.InternalServerError) as caught:
            client.audio.transcriptions.create(file=slow, model=ENGLISH, extra_query={"timeout": 0.5})
        assert (caught.value.status_code, caught.value.code) == (504, "deadline_exceeded")
        assert caught.value.request.headers["x-stainless-retry-count"] == "0"

    def test_one_file(self, server: Server) -> None:
        parts = [("file", FILE.read_bytes())] * 2
        response = server.client.post("/v1/audio/transcriptions", files=parts, data={"model": ENGLISH})
        assert server.error(response) == (413, "too_many_clips", "file[1]")
        assert server.error(server.client.post("/v1/audio/transcriptions", data={"model": ENGLISH}))[0] == 415

    def test_another_path(self, client: OpenAI) -> None:
        with pytest.raises(openai.NotFoundError):
            client.embeddings.create(input="text", model=ENGLISH)

    def test_a_full_server_is_asked_again_when_it_says(self, server: Server, client: OpenAI) -> None:
        clip = noise(QUEUE_SECONDS)
        hold, quick = wav(poisoned(clip, "hold")), wav(clip)
        with connect(server, max_retries=50) as patient, ThreadPoolExecutor(2) as pool:

            def ask(file: bytes) -> None:
                assert patient.audio.transcriptions.create(file=file, model=ENGLISH).usage

            with server.held(lambda: ask(hold)) as held:
                waiting = pool.submit(ask, quick)
                until(lambda: server.metric("sonant_queue_audio_seconds"))
                with pytest.raises(openai.RateLimitError) as caught:
                    client.audio.transcriptions.create(file=quick, model=ENGLISH)
                again = pool.submit(ask, quick)  # in vain at first, too
            for answer in (held, waiting, again):
                answer.result()
        refusal = caught.value
        assert refusal.code == "queue_full"
        assert int(refusal.response.headers["Retry-After"]) >= 1
