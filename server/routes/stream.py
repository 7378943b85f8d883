"""WS /v1/stream: audio in, texts out while it is spoken.

| from the client | |
|---|---|
| `{"type": "start", ...}` | the first message, with the options (StreamOptions) |
| binary messages | the audio, cut anywhere, also within a sample |
| `{"type": "end"}` | the end of the audio |

| from the server | |
|---|---|
| `{"type": "ready", ...}` | the options that hold; audio may be sent from the beginning on |
| `{"type": "partial", "text": ..., ...}` | what follows the final texts so far; the next text takes its place |
| `{"type": "final", "text": ..., ...}` | what does not change any more; put together as they are, they are the text |
| `{"type": "done", "usage": ...}` | everything has its text: the server closes with 1000 |
| `{"type": "error", "error": ...}` | the envelope of every error; the server closes, server.http.closing says how |

A client that sends faster than its audio is worked on is slowed down: the server reads no more. One that sends no audio
for `stream_idle_seconds` is closed, and so is a stream after `stream_seconds`. A stream keeps the model that it began
with: where that is replaced or unloaded, the stream has as long to end as at the end of the process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import aclosing, suppress
from typing import Any, NoReturn, TypeVar

import orjson
from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from prometheus_client import Gauge
from pydantic import BaseModel
from starlette.types import Message

from server.decoding.transcript import Transcript
from server.errors import (
    ApiError,
    FieldUnknownError,
    MessageInvalidError,
    MessageTypeError,
    ModelReplacedError,
    OptionNotSupportedError,
    StreamIdleError,
    StreamTooLongError,
    quoted,
)
from server.formats.items import item, times
from server.http.closing import DONE, close_with
from server.http.keys import PROTOCOL
from server.http.websocket import MAX_MESSAGE_BYTES
from server.kept import FLOAT32_BYTES
from server.models.model import Served
from server.routes.inputs import validated
from server.schemas.answers import Usage
from server.schemas.options import TranscribeOptions
from server.schemas.stream import StreamDone, StreamEnd, StreamFinal, StreamOptions, StreamPartial, StreamReady
from server.service import RECEIVED_AUDIO, Service
from server.streaming.recognizers import Recognizer, recognizer
from server.streaming.samples import Samples
from server.streaming.session import Final, Partial, Session, capacity

router = APIRouter()

ModelT = TypeVar("ModelT", bound=BaseModel)

STREAMS = Gauge("sonant_streams", "Streams that are open.")

# A text is late by up to a window; shorter ones see less of what is around a word, and cost more, since each sees some
# of its neighbours.
WINDOW_SECONDS = 8.0
INTERIM_SECONDS = 1.0
# Of a message that is no audio: no option takes as much.
MAX_CHARACTERS = 4096


@router.websocket("/v1/stream")
async def stream(socket: WebSocket) -> None:
    """Serve one stream."""
    await socket.accept(PROTOCOL if PROTOCOL in socket.scope["subprotocols"] else None)
    with STREAMS.track_inprogress(), suppress(WebSocketDisconnect):
        try:
            await _Stream(socket).run()
        except ApiError as error:
            await close_with(socket.send, error)


class _Stream:
    """One connection."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket
        self._service: Service = socket.app.state.service
        self._settings = self._service.settings
        self._idle_at: float | None = None  # on the loop's clock
        self._audio_awaited()

    async def run(self) -> None:
        """Take the options, then the audio to its end. Raises ApiError; WebSocketDisconnect where the client left."""
        options = _parse(StreamOptions, "start", await self._receive())
        async with self._service.models.lease(options.model, "transcribe") as served:
            self._socket.state.model = served.engine.name
            served.scheduler.check()
            found, interim = self._recognizer(served, options)
            rate = served.engine.manifest.sample_rate
            with self._service.stream() as hold:
                hold.take(FLOAT32_BYTES * capacity(found, rate) + MAX_MESSAGE_BYTES)
                samples = Samples(options.encoding, options.sample_rate, rate)
                session = Session(found, samples, rate, interim, self._settings.stream_seconds)
                await self._send(_ready(served, options, found, interim))
                try:
                    await first_of(self._write(session), self._read(session), self._expire(), self._model_ends(served))
                finally:
                    self._socket.state.audio_seconds = session.seconds
                    RECEIVED_AUDIO.labels(served.engine.name).inc(session.seconds)
                await self._send(StreamDone(usage=Usage(audio_seconds=session.seconds)))
                await self._socket.close(DONE)

    def _recognizer(self, served: Served, options: StreamOptions) -> tuple[Recognizer, float]:
        """Return what transcribes the stream, and how many seconds there are between two partial texts."""
        window = min(WINDOW_SECONDS, served.engine.manifest.seconds[1])
        asked = options.model_dump(include={"context_seconds", "timestamps", "language"})
        transcribe = validated(TranscribeOptions, {**asked, "window_seconds": options.window_seconds or window})
        found = recognizer(served, transcribe, self._settings, self._service.offload)
        if options.interim and not found.has_partials:
            message = "'interim' is not supported by a model that writes token by token: leave it out"
            raise OptionNotSupportedError(message, "interim")
        default = INTERIM_SECONDS if found.has_partials else 0.0
        return found, default if options.interim is None else options.interim

    async def _read(self, session: Session) -> NoReturn:
        """Feed the session; raises what is wrong with what comes."""
        while "bytes" in (message := await self._receive()):
            self._socket.state.received_bytes += len(message["bytes"])
            await session.feed(message["bytes"])
            if message["bytes"]:
                self._audio_awaited()
        _parse(StreamEnd, "end", message)
        await session.end()
        self._idle_at = None
        await self._receive()
        raise MessageInvalidError("nothing is read after the end of the audio")

    async def _write(self, session: Session) -> None:
        """Send the texts of the session."""
        async with aclosing(session.texts()) as texts:
            async for found in texts:
                await self._send(_message(found))

    async def _expire(self) -> NoReturn:
        seconds = self._settings.stream_seconds
        await asyncio.sleep(seconds)
        raise StreamTooLongError(f"the stream has lasted {seconds:g} s, the longest that is taken")

    async def _model_ends(self, served: Served) -> NoReturn:
        await served.retired.wait()
        await asyncio.sleep(self._settings.shutdown_seconds)
        raise ModelReplacedError("the model has been replaced or unloaded: connect again", "model")

    def _audio_awaited(self) -> None:
        """Begin to wait for audio."""
        self._idle_at = asyncio.get_running_loop().time() + self._settings.stream_idle_seconds

    async def _receive(self) -> Message:
        """Return a message with "bytes" or "text". Raises StreamIdleError, or WebSocketDisconnect."""
        try:
            async with asyncio.timeout_at(self._idle_at):
                message = await self._socket.receive()
        except TimeoutError:
            seconds = self._settings.stream_idle_seconds
            raise StreamIdleError(f"no audio has come for {seconds:g} s: send silence, or end the stream") from None
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message["code"])
        return message

    async def _send(self, message: BaseModel) -> None:
        await self._socket.send_text(message.model_dump_json())


def _ready(served: Served, options: StreamOptions, found: Recognizer, interim: float) -> StreamReady:
    geometry, rate = found.cut.geometry, served.engine.manifest.sample_rate
    return StreamReady(
        model=served.engine.name,
        sample_rate=options.sample_rate,
        encoding=options.encoding,
        window_seconds=geometry.window / rate,
        context_seconds=geometry.context / rate,
        interim=interim,
        timestamps=options.timestamps,
        language=options.language,
    )


def _message(found: Partial | Final) -> StreamPartial | StreamFinal:
    text = found.text
    if isinstance(found, Partial):
        return StreamPartial(text=text.text, **times(text))
    return StreamFinal(**item(Transcript(text.text, text.confidence, text.words)), **times(text))


def _parse(schema: type[ModelT], type_: str, message: Message) -> ModelT:
    """Return the text message as `schema`; raises MessageTypeError, MessageInvalidError or OptionError."""
    if "text" not in message:
        raise MessageTypeError(f'the first message must be text, JSON with "type": "{type_}"; audio follows it')
    if len(message["text"]) > MAX_CHARACTERS:
        raise MessageInvalidError(f"a text message has at most {MAX_CHARACTERS} characters")
    try:
        fields = orjson.loads(message["text"])
    except orjson.JSONDecodeError as error:
        raise MessageInvalidError(f"a text message must be JSON: {error}") from None
    if not isinstance(fields, dict) or fields.get("type") != type_:
        raise MessageInvalidError(f'the message must be a JSON object with "type": "{type_}"', "type")
    for name in fields.keys() - schema.model_fields.keys():
        there = ", ".join(schema.model_fields)
        raise FieldUnknownError(f"there is no field {quoted(name)}; there are: {there}", name)
    return validated(schema, fields)


async def first_of(*work: Coroutine[Any, Any, None]) -> None:
    """Run `work` until one of it ends, and end the rest; raises what that one raises, of several the first of them."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        ended = [task for task in tasks if task.done()]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    ended[0].result()
