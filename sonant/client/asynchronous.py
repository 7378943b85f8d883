"""The client whose methods are awaited."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from types import TracebackType
from typing import Literal, Self, TypeVar, Unpack, overload

import anyio
import anyio.to_thread
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


class AsyncClient:
    """A server, for any number of calls at a time; close it, or use it with `async with`.

    Each method raises ClientError; what is temporary was tried again before. Cancelling one ends its request. Audio is
    a path, bytes, a file object that was opened with "rb", or an array float [samples] or [samples, channels] in
    [-1, 1], or int16, with its `sample_rate` in Hz. Options are those of the server, by name.
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
        self._http = httpx.AsyncClient(**self._configuration.arguments)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    @overload
    async def encode(
        self, audio: Audio, *, sample_rate: int | None = ..., layer: Sequence[int], **options: Unpack[EncodeOptions]
    ) -> list[Encoding]: ...

    @overload
    async def encode(
        self, audio: Audio, *, sample_rate: int | None = ..., layer: int | None = ..., **options: Unpack[EncodeOptions]
    ) -> Encoding: ...

    async def encode(
        self,
        audio: Audio,
        *,
        sample_rate: int | None = None,
        layer: int | Sequence[int] | None = None,
        **options: Unpack[EncodeOptions],
    ) -> Encoding | list[Encoding]:
        """Return the last layer's output, or that of one `layer`; of several, a list in their order."""
        found = await self.run(calls.encode(audio, sample_rate, {"layer": layer, **options}))
        return found if isinstance(layer, Sequence) else found[0]

    async def transcribe(
        self,
        audio: Audio,
        *,
        sample_rate: int | None = None,
        response_format: Literal["json", "verbose_json"] = "json",
        **options: Unpack[TranscribeOptions],
    ) -> Transcription:
        """Return what is said; as verbose_json, with its segments."""
        return await self.run(calls.transcribe(audio, sample_rate, {**options, "response_format": response_format}))

    async def render(
        self,
        audio: Audio,
        response_format: Literal["text", "srt", "vtt"],
        *,
        sample_rate: int | None = None,
        **options: Unpack[TranscribeOptions],
    ) -> str:
        """Return what is said as text or as subtitles."""
        return await self.run(calls.render(audio, sample_rate, {**options, "response_format": response_format}))

    async def classify(
        self, audio: Audio, *, sample_rate: int | None = None, **options: Unpack[ClassifyOptions]
    ) -> Classification:
        """Return what it is."""
        return await self.run(calls.classify(audio, sample_rate, options))

    async def models(self) -> list[Model]:
        """Return what the server has, also what it cannot serve."""
        return await self.run(calls.models())

    async def run(self, call: Call[T]) -> T:
        """Return what comes of `call`, tried again while that may help."""
        retries = Retries(self._configuration.retries, self._configuration.retry_seconds)
        while True:
            try:
                return await self._try(call)
            except ClientError as error:
                pause = retries.pause(error) if call.is_repeatable else None
                if pause is None:
                    raise
            await anyio.sleep(pause)

    async def _try(self, call: Call[T]) -> T:
        body = None if call.upload is None else _pieces(call.upload.pieces())
        try:
            response = await self._http.request(
                **call.arguments, content=body, timeout=self._configuration.timeouts(call.timeout)
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise calls.failure(error, self._configuration.url) from error
        calls.check(response)
        return call.read(response)


async def _pieces(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Yield `pieces`, each read in a thread: the disk may be slow."""
    while (piece := await anyio.to_thread.run_sync(next, pieces, None)) is not None:
        yield piece
