from pathlib import Path

import pytest

from engines.manifest import Manifest
from server.schemas.answers import ClassifyAnswer
from tests.server.process import Server


def test_the_labels_are_ranked(server: Server, models: Path, speech: bytes) -> None:
    parts = [("file", ("a.wav", speech))] * 2
    body = server.client.post("/v1/classify", files=parts, data={"function": "softmax", "top_k": 1000}).json()
    ClassifyAnswer.model_validate(body)
    classification = Manifest.read(models / "tiny-classifier").classification
    assert classification
    for item in body["data"]:
        assert {label["label"] for label in item["labels"]} == set(classification.labels)
        scores = [label["score"] for label in item["labels"]]
        assert scores == sorted(scores, reverse=True)
        assert sum(scores) == pytest.approx(1)


def test_top_k(server: Server, speech: bytes) -> None:
    response = server.client.post("/v1/classify", files={"file": speech}, data={"top_k": 1})
    assert len(response.json()["data"][0]["labels"]) == 1
