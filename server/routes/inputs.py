"""The one place where a request is read: multipart, raw audio or JSON -> options and sources.

What a body holds beside audio is bounded before it is looked at: Python does that for one request at a time.
"""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import orjson
from fastapi import Request
from pydantic import ValidationError
from python_multipart.multipart import parse_options_header
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
    TooManyFieldsError,
    quoted,
)
from server.routes.deadlines import deadline_of, in_time
from server.schemas.options import Options
from server.service import Service
from server.settings import Settings

logger = logging.getLogger(__name__)

OptionsT = TypeVar("OptionsT", bound=Options)
Fields = dict[str, Any]

# A task has about ten options; the rest is room for those that are misspelt, and for lists in a query or a form.
MAX_FIELDS = 64
# Values in JSON beside the clips: the fields, and the longest lists that options take.
MAX_VALUES = 1024
# Of one field in a form that is not a file: no option takes as much.
MAX_FIELD_BYTES = 64 * 1024
# Decoding base64 keeps all other threads waiting: a mebibyte takes some milliseconds. A multiple of 4 characters.
BASE64_CHARACTERS = 1 << 20

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

    What is done with them is cancelled at their deadline. Raises MediaTypeError, BodyInvalidError, TooManyFieldsError,
    FieldUnknownError, OptionError, AudioMissingError, TooManyClipsError or DeadlineError.
    """
    items = request.query_params.multi_items()
    if len(items) > MAX_FIELDS:
        raise _too_many_fields("query")
    check = partial(_check, schema, _collect(items), service.settings)
    async with _read(request, check, service) as inputs, in_time(inputs.deadline):
        yield inputs


@asynccontextmanager
async def _read(
    request: Request, check: Callable[[_Read], Inputs[OptionsT]], service: Service
) -> AsyncIterator[Inputs[OptionsT]]:
    """Read the body and check what stands in it."""
    # A body without a content type may be taken for application/octet-stream (RFC 9110, 8.3).
    media = request.headers.get("content-type", BYTES).partition(";")[0].strip().lower()
    if media == MULTIPART:
        form = await _read_form(request, service.settings.max_clips)
        try:
            yield check(_from_form(form))
        finally:
            await form.close()
    elif media == JSON:
        body = await request.body()
        yield await service.offload(lambda: check(_from_json(body, service.settings.max_clips)))
    elif media == BYTES or media.startswith("audio/"):
        body = await request.body()
        yield check(_Read(None, {}, [Source(None, lambda: body)]))
    else:
        raise MediaTypeError(
            f"content type {quoted(media)} is not read: send {MULTIPART} with 'file', {JSON} with base64 'input', or "
            f"the audio itself as audio/* (such as audio/wav) or {BYTES}"
        )


async def _read_form(request: Request, max_clips: int) -> FormData:
    _check_charset(request.headers["content-type"])
    files = max_clips + MAX_FIELDS  # an upload may have the wrong name too
    try:
        return await request.form(max_files=files, max_fields=MAX_FIELDS, max_part_size=MAX_FIELD_BYTES)
    except HTTPException as error:  # starlette has no other sign of what was too much than its words
        if error.detail.startswith("Too many files"):
            raise _too_many_clips(f"more than {files}", max_clips) from None
        if error.detail.startswith("Too many fields"):
            raise _too_many_fields("form") from None
        if error.detail.startswith("Part exceeded"):
            raise OptionError(f"a field that is no file has more than {MAX_FIELD_BYTES} bytes") from None
        raise BodyInvalidError(f"the multipart body cannot be read: {error.detail}") from None
    except OSError as error:  # files of more than 1 MB are written to the disk
        logger.error("an upload cannot be written to the folder for temporary files: %s", error)
        raise StorageFullError("the server cannot store the uploaded files") from None


def _check_charset(content_type: str) -> None:
    """Raise MediaTypeError for a form in another charset than UTF-8.

    The client would choose among all of Python's codecs, of which some take minutes for a megabyte.
    """
    charset = parse_options_header(content_type)[1].get(b"charset", b"utf-8").decode("latin-1")
    if charset.lower() not in ("utf-8", "utf8"):
        raise MediaTypeError(f"a form is read as UTF-8, not as {quoted(charset)}")


def _check(schema: type[OptionsT], query: Fields, settings: Settings, read: _Read) -> Inputs[OptionsT]:
    """Check all but the audio itself."""
    for name in sorted(query.keys() & read.options.keys()):
        raise OptionError(f"{quoted(name)} stands both in the query and in the body", name)
    fields = {**query, **read.options}
    if len(fields) > MAX_FIELDS:
        raise _too_many_fields("request")
    allowed = [read.audio_field, *schema.model_fields] if read.audio_field else list(schema.model_fields)
    for name in sorted(fields.keys() - schema.model_fields.keys()):
        raise FieldUnknownError(f"there is no field {quoted(name)}; there are: {', '.join(allowed)}", name)
    options = _validate(schema, fields)
    if not read.sources:
        raise AudioMissingError(f"there is no audio: send it in '{read.audio_field}'", read.audio_field)
    if len(read.sources) > settings.max_clips:
        raise _too_many_clips(str(len(read.sources)), settings.max_clips)
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


def _from_json(body: bytes, max_clips: int) -> _Read:
    if _may_have_more_values(body, MAX_VALUES + max_clips):
        raise TooManyFieldsError(f"the body has more than {MAX_VALUES} values beside {max_clips} clips")
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


def _may_have_more_values(body: bytes, count: int) -> bool:
    """Whether the JSON `body` may have more than `count` values, by its commas; base64 has none.

    To parse millions of values takes a second in which no other thread runs.
    """
    position = -1
    for _ in range(count):
        position = body.find(b",", position + 1)
        if position < 0:
            return False
    return True


def _read_base64(text: str) -> bytes:
    """Decode `text`, piece by piece. Raises Base64InvalidError."""
    data = bytearray()
    for start in range(0, len(text), BASE64_CHARACTERS):
        if 4 * len(data) < 3 * start:
            raise Base64InvalidError("the audio is not base64: it goes on after its end")
        try:
            data += base64.b64decode(text[start : start + BASE64_CHARACTERS], validate=True)
        except (binascii.Error, ValueError) as error:  # ValueError: characters outside ASCII
            raise Base64InvalidError(f"the audio is not base64: {error}") from None
    return bytes(data)


def _too_many_clips(count: str, max_clips: int) -> TooManyClipsError:
    return TooManyClipsError(f"the request has {count} clips; up to {max_clips} are taken")


def _too_many_fields(where: str) -> TooManyFieldsError:
    return TooManyFieldsError(f"the {where} has more than {MAX_FIELDS} fields")
