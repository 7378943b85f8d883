from pathlib import Path

import pytest
from transformers import AutoTokenizer

from engines.engine import Engine
from server.decoding.ctc import CtcDecoder
from server.routes.transcribe import render
from server.schemas.answers import TranscribeAnswer
from tests.server.process import Server, noise, wav


def test_the_text_is_that_of_the_engine(server: Server, models: Path) -> None:
    engine = Engine(models / "tiny-ctc")
    assert engine.manifest.ctc
    clips = [noise(3, seed=1), noise(1, seed=2)]
    parts = [("file", ("a.wav", wav(clip))) for clip in clips]
    body = server.client.post("/v1/transcribe", files=parts).json()
    TranscribeAnswer.model_validate(body)
    assert body["model"] == "tiny-ctc"
    for clip, item in zip(clips, body["data"], strict=True):
        [row] = engine.run([clip], ["logits"])
        expected = CtcDecoder(engine.manifest.ctc).greedy(row["logits"])
        assert item["text"] == expected.text
        assert item["confidence"] == pytest.approx(expected.confidence, rel=1e-3)
    assert body["text"] == body["data"][0]["text"]
    assert [item["duration"] for item in body["data"]] == [3, 1]


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


def test_plain_text(server: Server, speech: bytes) -> None:
    parts = [("file", ("a.wav", speech))] * 2
    text = server.client.post("/v1/transcribe", files=parts).json()["text"]
    response = server.client.post("/v1/transcribe", files=parts, data={"response_format": "text"})
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert response.text == f"{text}\n{text}\n"


def test_plain_text_has_one_line_for_each_clip() -> None:
    items = [{"text": "one\r\ntwo\nthree", "duration": 1}, {"text": "", "duration": 1}]
    assert render(True, "any", lambda: items) == b"one two three\n\n"


@pytest.mark.parametrize(
    ("name", "value"), [("timestamps", "word"), ("beams", "4"), ("hotwords", "sonant"), ("language", "en")]
)
def test_what_does_not_exist_yet(server: Server, speech: bytes, name: str, value: str) -> None:
    response = server.client.post("/v1/transcribe", files={"file": speech}, data={name: value})
    assert server.error(response) == (422, "option_not_supported", name)
