"""The one place where a request is read: multipart, raw audio or JSON -> options and sources."""

from __future__ import annotations

import base64
import binascii
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

from server.errors import (
    AudioMissingError,
    Base64InvalidError,
    BodyInvalidError,
    FieldUnknownError,
    MediaTypeError,
    OptionError,
    TooManyClipsError,
)
from server.schemas import Options
from server.service import Service, Source

O = TypeVar("O", bound=Options)  # noqa: E741
Fields = dict[str, Any]

MULTIPART, JSON, BYTES = "multipart/form-data", "application/json", "application/octet-stream"


@dataclass(frozen=True)
class Inputs(Generic[O]):
    """What a request asks for."""

    options: O
    sources: list[Source]


@asynccontextmanager
async def read_inputs(request: Request, schema: type[O], service: Service) -> AsyncIterator[Inputs[O]]:
    """Read the options of `schema` and the audio of `request`; uploads are closed at the end.

    Raises MediaTypeError, BodyInvalidError, FieldUnknownError, OptionError, AudioMissingError or TooManyClipsError.
    """
    # A body without a content type may be taken for application/octet-stream (RFC 9110, 8.3).
    media = request.headers.get("content-type", BYTES).partition(";")[0].strip().lower()
    query = _collect(request.query_params.multi_items())
    if media == MULTIPART:
        try:
            form = await request.form()
        except HTTPException as error:
            raise BodyInvalidError(f"the multipart body cannot be read: {error.detail}") from None
        try:
            fields, sources = _from_form(form, schema)
            yield _inputs(schema, query, fields, sources, service)
        finally:
            await form.close()
    elif media == JSON:
        body = await request.body()
        fields, sources = await service.offload(partial(_from_json, body))
        yield _inputs(schema, query, fields, sources, service)
    elif media == BYTES or media.startswith("audio/"):
        body = await request.body()
        yield _inputs(schema, query, {}, [Source(None, lambda: body)], service)
    else:
        raise MediaTypeError(
            f"content type {media!r} is not read: send {MULTIPART} with 'file', {JSON} with base64 'input', or the "
            f"audio itself as audio/* (such as audio/wav) or {BYTES}"
        )


def _inputs(schema: type[O], query: Fields, body: Fields, sources: list[Source], service: Service) -> Inputs[O]:
    """Check what was read; the cheap checks come first, audio is not looked at."""
    for name in sorted(query.keys() & body.keys()):
        raise OptionError(f"'{name}' stands both in the query and in the body", name)
    options = validate(schema, {**query, **body})
    limit = service.settings.max_clips
    if len(sources) > limit:
        raise TooManyClipsError(f"the request has {len(sources)} clips; up to {limit} are taken")
    return Inputs(options, sources)


def validate(schema: type[O], fields: Fields) -> O:
    """Return `fields` as options; raises FieldUnknownError or OptionError, which name the field."""
    try:
        return schema.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    name = str(first["loc"][0])
    if first["type"] == "extra_forbidden":
        raise _unknown(name, schema.model_fields)
    raise OptionError(f"'{name}': {first['msg']}", name)


def _unknown(name: str, allowed: Iterable[str]) -> FieldUnknownError:
    return FieldUnknownError(f"there is no field '{name}'; there are: {', '.join(sorted(allowed))}", name)


def _collect(items: Iterable[tuple[str, str]]) -> Fields:
    """Return the values by name: a list where a name is repeated."""
    values: dict[str, list[str]] = {}
    for name, value in items:
        values.setdefault(name, []).append(value)
    return {name: found[0] if len(found) == 1 else found for name, found in values.items()}


def _from_form(form: FormData, schema: type[Options]) -> tuple[Fields, list[Source]]:
    texts: list[tuple[str, str]] = []
    sources: list[Source] = []
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            if name != "file":
                raise _unknown(name, ["file", *schema.model_fields])
            sources.append(Source(f"file[{len(sources)}]", partial(_read_upload, value)))
        elif name == "file":
            raise AudioMissingError("'file' must be an upload, as of curl -F file=@speech.wav", "file")
        else:
            texts.append((name, value))
    if unknown := [name for name, _ in texts if name not in schema.model_fields]:
        raise _unknown(unknown[0], ["file", *schema.model_fields])
    if not sources:
        raise AudioMissingError("there is no audio: send it as 'file', as of curl -F file=@speech.wav", "file")
    return _collect(texts), sources


def _read_upload(upload: UploadFile) -> bytes:
    return upload.file.read()


def _from_json(body: bytes) -> tuple[Fields, list[Source]]:
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BodyInvalidError(f"the body is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise BodyInvalidError("the body must be a JSON object")
    audio = fields.pop("input", None)
    if isinstance(audio, str):
        return fields, [Source("input", partial(_read_base64, audio))]
    if not isinstance(audio, list) or not audio or not all(isinstance(one, str) for one in audio):
        raise AudioMissingError("there is no audio: 'input' must be base64, or a list of at least one", "input")
    return fields, [Source(f"input[{index}]", partial(_read_base64, one)) for index, one in enumerate(audio)]


def _read_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:  # ValueError: characters outside ASCII
        raise Base64InvalidError(f"the audio is not base64: {error}") from None
