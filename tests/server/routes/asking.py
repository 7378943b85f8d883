"""Requests that several test modules send."""

from __future__ import annotations

from typing import Any

import numpy as np

from server.schemas.answers import TranscribeAnswer
from tests.server.process import Server, wav


def transcribe(server: Server, *clips: np.ndarray, **options: Any) -> Any:
    """Return the answer about `clips`, which is as documented."""
    parts = [("file", ("a.wav", wav(clip))) for clip in clips]
    response = server.client.post("/v1/transcribe", files=parts, data=options)
    assert response.status_code == 200, response.text
    TranscribeAnswer.model_validate(response.json())
    return response.json()
