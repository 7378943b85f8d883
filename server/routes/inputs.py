"""The one place where a request is read: multipart, raw audio or JSON -> options and sources."""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import orjson
from fastapi import Request
from pydantic import ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

from server.audio.decoders import Source
from server.errors import (
    AudioMissingError,
    Base64InvalidError,
    BodyInvalidError,
    FieldUnknownError,
    MediaTypeError,
    OptionError,
    StorageFullError,
    TooManyClipsError,
)
from server.routes.deadlines import deadline_of, in_time
from server.schemas.options import Options
from server.service import Service
from server.settings import Settings

logger = logging.getLogger(__name__)

OptionsT = TypeVar("OptionsT", bound=Options)
Fields = dict[str, Any]

MULTIPART, JSON, BYTES = "multipart/form-data", "application/json", "application/octet-stream"


@dataclass(frozen=True)
class Inputs(Generic[OptionsT]):
    """What a request asks for, and until when, on the clock of time.perf_counter."""

    options: OptionsT
    sources: list[Source]
    deadline: float


@dataclass(frozen=True)
class _Read:
    """What stands in a body: the name of the field that holds audio, if it has fields; the options; the audio."""

    audio_field: str | None
    options: Fields
    sources: list[Source]


@asynccontextmanager
async def read_inputs(request: Request, schema: type[OptionsT], service: Service) -> AsyncIterator[Inputs[OptionsT]]:
    """Read the options of `schema` and the audio of `request`; uploads are closed at the end.

    What is done with them is cancelled at their deadline. Raises MediaTypeError, BodyInvalidError, FieldUnknownError,
    OptionError, AudioMissingError, TooManyClipsError or DeadlineError.
    """
    query = _collect(request.query_params.multi_items())
    async with _read(request, service) as read:
        inputs = _check(schema, query, service.settings, read)
        async with in_time(inputs.deadline):
            yield inputs


@asynccontextmanager
async def _read(request: Request, service: Service) -> AsyncIterator[_Read]:
    """Read the body."""
    # A body without a content type may be taken for application/octet-stream (RFC 9110, 8.3).
    media = request.headers.get("content-type", BYTES).partition(";")[0].strip().lower()
    if media == MULTIPART:
        try:
            form = await request.form()
        except HTTPException as error:
            raise BodyInvalidError(f"the multipart body cannot be read: {error.detail}") from None
        except OSError as error:  # files of more than 1 MB are written to the disk
            logger.error("an upload cannot be written to the folder for temporary files: %s", error)
            raise StorageFullError("the server cannot store the uploaded files") from None
        try:
            yield _from_form(form)
        finally:
            await form.close()
    elif media == JSON:
        body = await request.body()
        yield await service.offload(partial(_from_json, body))
    elif media == BYTES or media.startswith("audio/"):
        body = await request.body()
        yield _Read(None, {}, [Source(None, lambda: body)])
    else:
        raise MediaTypeError(
            f"content type {media!r} is not read: send {MULTIPART} with 'file', {JSON} with base64 'input', or the "
            f"audio itself as audio/* (such as audio/wav) or {BYTES}"
        )


def _check(schema: type[OptionsT], query: Fields, settings: Settings, read: _Read) -> Inputs[OptionsT]:
    """Check all but the audio itself."""
    for name in sorted(query.keys() & read.options.keys()):
        raise OptionError(f"'{name}' stands both in the query and in the body", name)
    fields = {**query, **read.options}
    allowed = [read.audio_field, *schema.model_fields] if read.audio_field else list(schema.model_fields)
    for name in sorted(fields.keys() - schema.model_fields.keys()):
        raise FieldUnknownError(f"there is no field '{name}'; there are: {', '.join(allowed)}", name)
    options = _validate(schema, fields)
    if not read.sources:
        raise AudioMissingError(f"there is no audio: send it in '{read.audio_field}'", read.audio_field)
    if len(read.sources) > settings.max_clips:
        raise TooManyClipsError(f"the request has {len(read.sources)} clips; up to {settings.max_clips} are taken")
    return Inputs(options, read.sources, deadline_of(options.timeout, settings.timeout, settings.max_timeout))


def _validate(schema: type[OptionsT], fields: Fields) -> OptionsT:
    try:
        return schema.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    name = str(first["loc"][0])
    raise OptionError(f"'{name}': {first['msg']}", name)


def _collect(items: Iterable[tuple[str, str]]) -> Fields:
    """Return the values by name: a list where a name is repeated."""
    values: dict[str, list[str]] = {}
    for name, value in items:
        values.setdefault(name, []).append(value)
    return {name: found[0] if len(found) == 1 else found for name, found in values.items()}


def _from_form(form: FormData) -> _Read:
    texts: list[tuple[str, str]] = []
    sources: list[Source] = []
    for name, value in form.multi_items():
        if isinstance(value, str) and name == "file":
            raise AudioMissingError("'file' must be an upload, as of curl -F file=@speech.wav", "file")
        if isinstance(value, UploadFile) and name == "file":
            sources.append(Source(f"file[{len(sources)}]", partial(_read_upload, value)))
        else:  # no option takes a file: an upload here has the wrong name, and only the name is looked at
            texts.append((name, str(value)))
    return _Read("file", _collect(texts), sources)


def _read_upload(upload: UploadFile) -> bytes:
    return upload.file.read()


def _from_json(body: bytes) -> _Read:
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BodyInvalidError(f"the body is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise BodyInvalidError("the body must be a JSON object")
    audio = fields.pop("input", [])
    if isinstance(audio, str):
        return _Read("input", fields, [Source("input", partial(_read_base64, audio))])
    if not isinstance(audio, list) or not all(isinstance(one, str) for one in audio):
        raise AudioMissingError("'input' must be base64, or a list of it", "input")
    sources = [Source(f"input[{index}]", partial(_read_base64, one)) for index, one in enumerate(audio)]
    return _Read("input", fields, sources)


def _read_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:  # ValueError: characters outside ASCII
        raise Base64InvalidError(f"the audio is not base64: {error}") from None
