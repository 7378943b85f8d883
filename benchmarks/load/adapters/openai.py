"""A server with OpenAI's route for transcriptions."""

from __future__ import annotations

import json
from dataclasses import dataclass

from benchmarks.load.adapters.base import Adapter, Result
from benchmarks.load.client import Answer, Request
from benchmarks.load.requests import wav
from engines.batch import Clip

BOUNDARY = "sonant-5f1c0c3e7a1b4d52"  # which no clip has in it by chance


@dataclass(frozen=True)
class OpenAI(Adapter):
    """POST of a form with a WAV file and the name of a `model` to `path`; JSON with a `text` comes back."""

    model: str = "whisper-1"
    path: str = "/v1/audio/transcriptions"

    def request(self, clip: Clip, sample_rate: int) -> Request:
        """Return a request with a form."""
        fields = {"model": self.model, "response_format": "json"}
        parts = [f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}' for name, value in fields.items()]
        file = 'Content-Disposition: form-data; name="file"; filename="clip.wav"\r\nContent-Type: audio/wav\r\n\r\n'
        before = "".join(f"--{BOUNDARY}\r\n{part}\r\n" for part in parts) + f"--{BOUNDARY}\r\n{file}"
        body = before.encode() + wav(clip, sample_rate) + f"\r\n--{BOUNDARY}--\r\n".encode()
        headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        return Request.post(self.path, body, len(clip) / sample_rate, headers)

    def read(self, answer: Answer) -> Result:
        """Return the text."""
        return str(json.loads(answer.body)["text"])
