"""A client of Sonant's server: `Client`, or `AsyncClient` with the same methods to await.

    with Client("http://127.0.0.1:8000") as sonant:
        print(sonant.transcribe("speech.flac").text)
        vector = sonant.encode("speech.flac", pooling="mean").array

It needs httpx, numpy and pydantic: neither the server nor a runtime.
"""

from sonant.client.asynchronous import AsyncClient
from sonant.client.errors import (
    AnswerError,
    AuthenticationError,
    ClientError,
    ConnectionFailedError,
    NotFoundError,
    RateLimitError,
    RequestRefusedError,
    ServerError,
    StatusError,
    TimedOutError,
    UploadError,
)
from sonant.client.results import (
    Alternative,
    Char,
    Classification,
    Encoding,
    Label,
    LabelsInTime,
    Model,
    Segment,
    Transcription,
    Word,
)
from sonant.client.synchronous import Client
from sonant.client.uploads import Audio

__all__ = [
    "Alternative",
    "AnswerError",
    "AsyncClient",
    "Audio",
    "AuthenticationError",
    "Char",
    "Classification",
    "Client",
    "ClientError",
    "ConnectionFailedError",
    "Encoding",
    "Label",
    "LabelsInTime",
    "Model",
    "NotFoundError",
    "RateLimitError",
    "RequestRefusedError",
    "Segment",
    "ServerError",
    "StatusError",
    "TimedOutError",
    "Transcription",
    "UploadError",
    "Word",
]
