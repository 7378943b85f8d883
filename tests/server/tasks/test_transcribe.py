from typing import Any

import numpy as np
import pytest

from engines.manifest import Ctc
from server.errors import OptionNotSupportedError, TaskNotSupportedError
from server.schemas import TranscribeOptions
from server.tasks.transcribe import Transcribe
from tests.server.tasks.manifests import manifest

CTC = Ctc(vocabulary=("<pad>", "|", "a", "b"), blank=0, skipped=(0,), word_delimiter="|")


def test_the_logits_become_text() -> None:
    task = Transcribe(manifest(ctc=CTC), TranscribeOptions())
    assert task.outputs == ("logits",)
    logits = np.eye(4, dtype=np.float32)[[2, 2, 0, 3, 1, 2]]
    assert task.result({"logits": logits}).text == "ab a"


@pytest.mark.parametrize(
    "options",
    [{"timestamps": "word"}, {"timestamps": "char"}, {"beams": 4}, {"hotwords": ["x"]}, {"language": "en"}],
)
def test_what_does_not_exist_yet_is_refused_by_name(options: dict[str, Any]) -> None:
    [name] = options
    with pytest.raises(OptionNotSupportedError, match=name) as caught:
        Transcribe(manifest(ctc=CTC), TranscribeOptions.model_validate(options))
    assert caught.value.param == name


def test_what_asks_for_nothing_is_taken() -> None:
    options = TranscribeOptions(timestamps="none", beams=1, hotwords=[], language="")
    Transcribe(manifest(ctc=CTC), options)


def test_a_model_without_a_vocabulary() -> None:
    with pytest.raises(TaskNotSupportedError):
        Transcribe(manifest(), TranscribeOptions())
