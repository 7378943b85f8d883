"""The client whose methods return when the answer is there."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Literal, Self, TypeVar, Unpack, overload

import httpx

from sonant.client import calls
from sonant.client.calls import Call
from sonant.client.configuration import Configuration
from sonant.client.errors import ClientError
from sonant.client.options import ClassifyOptions, EncodeOptions, TranscribeOptions
from sonant.client.results import Classification, Encoding, Model, Transcription
from sonant.client.retries import Retries
from sonant.client.uploads import Audio

T = TypeVar("T")


class Client:
    """A server. One client can be used by several threads, and after a fork; close it, or use it with `with`.

    Each method raises ClientError; what is temporary was tried again before. Audio is a path, bytes, a file object that
    was opened with "rb", or an array float [samples] or [samples, channels] in [-1, 1], or int16, with its
    `sample_rate` in Hz. Options are those of the server, by name.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        timeout: float = 300.0,
        retries: int = 8,
        retry_seconds: float = 120.0,
    ) -> None:
        """Talk to the server at `url`, such as http://127.0.0.1:8000; nothing is sent yet.

        `timeout` is the longest time in seconds in which nothing happens, such as for an answer to begin, unless the
        `timeout` of a call is longer. A call that failed is repeated up to `retries` times while the server is full or
        not there, within `retry_seconds` in all.
        Raises ValueError for an address that is not one.
        """
        self._configuration = Configuration(url, key, timeout, retries, retry_seconds)
        self._http = httpx.Client(**self._configuration.arguments)
        self._process = os.getpid()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    @overload
    def encode(
        self, audio: Audio, *, sample_rate: int | None = ..., layer: Sequence[int], **options: Unpack[EncodeOptions]
    ) -> list[Encoding]: ...

    @overload
    def encode(
        self, audio: Audio, *, sample_rate: int | None = ..., layer: int | None = ..., **options: Unpack[EncodeOptions]
    ) -> Encoding: ...

    def encode(
        self,
        audio: Audio,
        *,
        sample_rate: int | None = None,
        layer: int | Sequence[int] | None = None,
        **options: Unpack[EncodeOptions],
    ) -> Encoding | list[Encoding]:
        """Return the last layer's output, or that of one `layer`; of several, a list in their order."""
        found = self.run(calls.encode(audio, sample_rate, {"layer": layer, **options}))
        return found if isinstance(layer, Sequence) else found[0]

    def transcribe(
        self,
        audio: Audio,
        *,
        sample_rate: int | None = None,
        response_format: Literal["json", "verbose_json"] = "json",
        **options: Unpack[TranscribeOptions],
    ) -> Transcription:
        """Return what is said; as verbose_json, with its segments."""
        return self.run(calls.transcribe(audio, sample_rate, {**options, "response_format": response_format}))

    def render(
        self,
        audio: Audio,
        response_format: Literal["text", "srt", "vtt"],
        *,
        sample_rate: int | None = None,
        **options: Unpack[TranscribeOptions],
    ) -> str:
        """Return what is said as text or as subtitles."""
        return self.run(calls.render(audio, sample_rate, {**options, "response_format": response_format}))

    def classify(
        self, audio: Audio, *, sample_rate: int | None = None, **options: Unpack[ClassifyOptions]
    ) -> Classification:
        """Return what it is."""
        return self.run(calls.classify(audio, sample_rate, options))

    def models(self) -> list[Model]:
        """Return what the server has, also what it cannot serve."""
        return self.run(calls.models())

    def run(self, call: Call[T]) -> T:
        """Return what comes of `call`, tried again while that may help."""
        retries = Retries(self._configuration.retries, self._configuration.retry_seconds)
        while True:
            try:
                return self._try(call)
            except ClientError as error:
                pause = retries.pause(error) if call.is_repeatable else None
                if pause is None:
                    raise
            time.sleep(pause)

    def _try(self, call: Call[T]) -> T:
        body = None if call.upload is None else call.upload.pieces()
        try:
            response = self._connections().request(
                **call.arguments, content=body, timeout=self._configuration.timeouts(call.timeout)
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise calls.failure(error, self._configuration.url) from error
        calls.check(response)
        return call.read(response)

    def _connections(self) -> httpx.Client:
        """Return those of this process: a fork has its own, else two processes would read each other's answers."""
        if self._process != os.getpid():
            self._process, self._http = os.getpid(), httpx.Client(**self._configuration.arguments)
        return self._http
