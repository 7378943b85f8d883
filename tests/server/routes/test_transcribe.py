import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from engines.engine import Engine
from server.decoding.transcript import Transcript
from server.routes.transcribe import answer, check_format
from server.schemas.options import TranscribeOptions
from server.settings import Settings
from server.speech import Said
from server.steps import finish
from server.tasks.transcribe import Transcribe
from server.windows import Span, Window
from tests.server.formats.subtitles import read_srt, read_vtt
from tests.server.process import Server, noise, wav
from tests.server.routes.asking import transcribe

LONG = noise(50, seed=3)  # the engine takes 20 s


def expected(engine: Engine, clip: np.ndarray, **options: Any) -> Transcript:
    """Return what the task makes of a clip that is run alone."""
    task = Transcribe(engine.manifest, TranscribeOptions(**options), Settings())
    [row] = engine.run([clip], task.outputs)
    whole = Span.whole(len(clip))
    return finish(task.result([Window(task.reduce(Window(row, whole)), whole)]))


def test_the_text_is_that_of_the_engine(server: Server, models: Path) -> None:
    engine = Engine(models / "tiny-ctc")
    clips = [noise(3, seed=1), noise(1, seed=2)]
    body = transcribe(server, *clips)
    assert body["model"] == "tiny-ctc"
    for clip, item in zip(clips, body["data"], strict=True):
        found = expected(engine, clip)
        assert item["text"] == found.text
        assert item["confidence"] == pytest.approx(found.confidence, rel=1e-3)
        assert item["windows"] == 1
        assert not {"words", "chars", "segments", "alternatives", "tokens", "language"} & set(item)
    assert body["text"] == body["data"][0]["text"]
    assert [item["duration"] for item in body["data"]] == [3, 1]
    assert body["usage"] == {"audio_seconds": 4}


def test_the_text_is_that_of_the_checkpoints_tokenizer(server: Server, models: Path, checkpoints: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(checkpoints / "tiny-ctc")
    dropped = set(tokenizer.all_special_ids) - {tokenizer.pad_token_id, tokenizer.word_delimiter_token_id}
    engine = Engine(models / "tiny-ctc")
    texts = []
    for seed in range(8):
        clip = noise(3, seed=seed)
        [row] = engine.run([clip], ["logits"])
        path = [index for index in row["logits"].argmax(1).tolist() if index not in dropped]
        texts.append(server.client.post("/v1/transcribe", content=wav(clip)).json()["text"])
        assert texts[-1] == tokenizer.decode(path)
    assert any(" " in text for text in texts)


@pytest.mark.parametrize("level", ["word", "char"])
def test_timestamps(server: Server, models: Path, level: str) -> None:
    clip = noise(3, seed=1)
    [item] = transcribe(server, clip, timestamps=level)["data"]
    found = expected(Engine(models / "tiny-ctc"), clip, timestamps=level)
    assert [word["word"] for word in item["words"]] == [word.text for word in found.words or ()]
    assert [word["word"] for word in item["words"]] == item["text"].split()
    for word, theirs in zip(item["words"], found.words or (), strict=True):
        assert (word["start"], word["end"]) == pytest.approx((theirs.start, theirs.end))
        assert word["confidence"] == pytest.approx(theirs.confidence, rel=1e-3)
    assert ("chars" in item) == (level == "char")
    if level == "char":
        assert "".join(char["char"] for char in item["chars"]).strip() == item["text"]


def test_verbose_json_has_segments_for_each_clip(server: Server) -> None:
    clips = [noise(3, seed=1), noise(12, seed=2)]
    data = transcribe(server, *clips, response_format="verbose_json")["data"]
    plain = transcribe(server, *clips)["data"]
    for item, other in zip(data, plain, strict=True):
        assert item["text"] == other["text"]
        assert " ".join(segment["text"] for segment in item["segments"]).split() == item["text"].split()
        assert item["words"][0]["start"] == item["segments"][0]["start"]
        assert item["words"][-1]["end"] == item["segments"][-1]["end"]
        for one, following in itertools.pairwise(item["segments"]):
            assert one["start"] < one["end"] <= following["start"]
        assert "chars" not in item


def test_plain_text(server: Server, speech: bytes) -> None:
    parts = [("file", ("a.wav", speech))] * 2
    text = server.client.post("/v1/transcribe", files=parts).json()["text"]
    response = server.client.post("/v1/transcribe", files=parts, data={"response_format": "text"})
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert response.headers["X-Windows"] == "1,1"
    assert response.text == f"{text}\n{text}\n"


def test_plain_text_has_one_line_for_each_clip() -> None:
    clips = [Said(Transcript("one\r\ntwo\nthree", 0.5), 1.0, 1), Said(Transcript("", None), 1.0, 1)]
    assert answer("any", TranscribeOptions(response_format="text"), clips).body == b"one two three\n\n"


def test_subtitles(server: Server) -> None:
    clip = wav(noise(12, seed=2))
    [item] = server.client.post("/v1/transcribe?response_format=verbose_json", content=clip).json()["data"]
    srt = server.client.post("/v1/transcribe?response_format=srt", content=clip)
    vtt = server.client.post("/v1/transcribe?response_format=vtt", content=clip)
    assert srt.headers["Content-Type"] == "application/x-subrip"
    assert vtt.headers["Content-Type"] == "text/vtt; charset=utf-8"
    cues = read_srt(srt.text)
    assert read_vtt(vtt.text) == cues
    assert [" ".join(lines) for _, _, lines in cues] == [segment["text"] for segment in item["segments"]]
    assert [start for start, _, _ in cues] == [round(1000 * segment["start"]) for segment in item["segments"]]


@pytest.mark.parametrize("response_format", ["srt", "vtt"])
def test_subtitles_are_of_one_clip(server: Server, speech: bytes, response_format: str) -> None:
    parts = [("file", ("a.wav", speech))] * 2
    response = server.client.post("/v1/transcribe", files=parts, data={"response_format": response_format})
    assert server.error(response) == (422, "option_invalid", "response_format")


@pytest.mark.parametrize("response_format", ["json", "verbose_json", "text"])
def test_other_formats_are_of_any_number(response_format: str) -> None:
    check_format(response_format, 32)


@pytest.mark.parametrize("options", [{}, {"timestamps": "word"}, {"response_format": "verbose_json"}, {"beams": 2}])
def test_windows(server: Server, options: dict[str, Any]) -> None:
    [item] = transcribe(server, LONG, **options)["data"]
    assert item["windows"] == 3
    assert item["duration"] == 50
    if "words" in item:
        assert [word["word"] for word in item["words"]] == item["text"].split()
        assert 45 < item["words"][-1]["end"] <= 50


def test_windows_of_other_formats(server: Server) -> None:
    response = server.client.post("/v1/transcribe?response_format=vtt", content=wav(LONG))
    assert response.headers["X-Windows"] == "3"
    assert read_vtt(response.text)[-1][1] > 45_000


def test_without_windows_a_long_clip_is_refused(server: Server) -> None:
    response = server.client.post("/v1/transcribe?windows=none", content=wav(LONG))
    assert server.error(response)[:2] == (413, "audio_too_long")


def test_alternatives(server: Server) -> None:
    [item] = transcribe(server, noise(3, seed=1), beams=4, alternatives=3)["data"]
    assert item["alternatives"][0]["text"] == item["text"]
    assert len(item["alternatives"]) == 3
    scores = [one["score"] for one in item["alternatives"]]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize(("name", "value"), [("language", "en"), ("temperature", "0.5"), ("max_tokens", "4")])
def test_what_a_model_that_labels_frames_cannot_do(server: Server, speech: bytes, name: str, value: str) -> None:
    response = server.client.post("/v1/transcribe", files={"file": speech}, data={name: value})
    assert server.error(response) == (422, "option_not_supported", name)
