"""The one place where a request is read: multipart, raw audio or JSON -> options and sources.

What a body holds beside audio is bounded before it is looked at: Python does that for one request at a time.
"""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import orjson
from fastapi import Request
from pydantic import BaseModel, ValidationError

from server.audio.decoders import Source
from server.errors import (
    AudioMissingError,
    Base64InvalidError,
    BodyInvalidError,
    FieldUnknownError,
    MediaTypeError,
    OptionError,
    TooManyClipsError,
    TooManyFieldsError,
    quoted,
)
from server.http.body import BYTES, JSON, MULTIPART, is_spooled, media_type
from server.routes.deadlines import deadline_of, in_time
from server.routes.forms import Form, read_form
from server.routes.uploads import Uploads
from server.schemas.options import MAX_ITEMS, Options
from server.service import Service
from server.settings import Settings

ModelT = TypeVar("ModelT", bound=BaseModel)
OptionsT = TypeVar("OptionsT", bound=Options)
Fields = dict[str, Any]

# A list stands in a query or a form as one field for each item. A task has about ten more options, and the rest is room
# for those that are misspelt.
MAX_FIELDS = MAX_ITEMS + 64
# Values in JSON beside the clips: the fields, and the longest lists that options take.
MAX_VALUES = 1024
# Decoding base64 keeps all other threads waiting: a mebibyte takes some milliseconds. A multiple of 4 characters.
BASE64_CHARACTERS = 1 << 20


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
    FieldUnknownError, OptionError, AudioMissingError, TooManyClipsError, DeadlineError, or what storing uploads does.
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
    media = media_type(request.headers)
    if media == JSON:
        body = await request.body()
        yield await service.offload(lambda: check(_from_json(body, service.settings.max_clips)))
    elif is_spooled(media):
        with service.spool.hold() as disk:
            uploads = Uploads(service.spool, request.state.body_hold, disk)
            yield check(await _read_uploads(request, uploads, service.settings.max_clips))
    else:
        raise MediaTypeError(
            f"content type {quoted(media)} is not read: send {MULTIPART} with 'file', {JSON} with base64 'input', or "
            f"the audio itself as audio/* (such as audio/wav) or {BYTES}"
        )


async def _read_uploads(request: Request, uploads: Uploads, max_clips: int) -> _Read:
    async with aclosing(request.stream()) as body:
        if media_type(request.headers) == MULTIPART:
            files = max_clips + MAX_FIELDS  # an upload may have the wrong name too
            return _from_form(await read_form(request.headers["content-type"], body, uploads, MAX_FIELDS, files))
        upload = await uploads.read(body)
        return _Read(None, {}, [Source(None, upload.open, upload.spooled)])


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
    options = validated(schema, fields)
    if not read.sources:
        raise AudioMissingError(f"there is no audio: send it in '{read.audio_field}'", read.audio_field)
    if len(read.sources) > settings.max_clips:
        raise _too_many_clips(str(len(read.sources)), settings.max_clips)
    return Inputs(options, read.sources, deadline_of(options.timeout, settings.timeout, settings.max_timeout))


def validated(schema: type[ModelT], fields: Fields) -> ModelT:
    """Return `fields` as `schema` has them. Raises OptionError for the first that cannot be."""
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
        values.setdefault(_field(name), []).append(value)
    return {name: found[0] if len(found) == 1 else found for name, found in values.items()}


def _field(name: str) -> str:
    """Return what is meant by `name[]` and `name[key]`: some clients write lists and tables so."""
    return name.partition("[")[0]


def _from_form(form: Form) -> _Read:
    if any(_field(name) == "file" for name, _ in form.texts):
        raise AudioMissingError("'file' must be an upload, as of curl -F file=@speech.wav", "file")
    uploads = [upload for name, upload in form.files if _field(name) == "file"]
    # No option takes a file: other uploads have the wrong name, and only the name is looked at.
    others = [(name, "an upload") for name, _ in form.files if _field(name) != "file"]
    sources = [Source(f"file[{index}]", upload.open, upload.spooled) for index, upload in enumerate(uploads)]
    return _Read("file", _collect([*form.texts, *others]), sources)


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


def _read_base64(text: str) -> io.BytesIO:
    """Decode `text`, piece by piece. Raises Base64InvalidError."""
    data = bytearray()
    for start in range(0, len(text), BASE64_CHARACTERS):
        if 4 * len(data) < 3 * start:
            raise Base64InvalidError("the audio is not base64: it goes on after its end")
        try:
            data += base64.b64decode(text[start : start + BASE64_CHARACTERS], validate=True)
        except (binascii.Error, ValueError) as error:  # ValueError: characters outside ASCII
            raise Base64InvalidError(f"the audio is not base64: {error}") from None
    return io.BytesIO(data)


def _too_many_clips(count: str, max_clips: int) -> TooManyClipsError:
    return TooManyClipsError(f"the request has {count} clips; up to {max_clips} are taken")


def _too_many_fields(where: str) -> TooManyFieldsError:
    return TooManyFieldsError(f"the {where} has more than {MAX_FIELDS} fields")
